"""One HTTP/1.1 connection of a client: bytes into requests, one at a time, and how it ends.

The parser is strict, and says nothing twice: what two readers might take for different requests
(a length beside chunks, bare line feeds, blanks before colons, absolute targets) is refused.
"""

import asyncio
import contextlib
import logging
import socket
import struct
import time
from collections import deque
from typing import Final, Protocol, cast

import httptools

from gateway.adapters.client_request import ClientRequest
from gateway.ports import HeaderPairs
from gateway.values import Inbound, Refusal, Reply

HEADERS_MAX: Final = 256
LINGER_S: Final = 5.0
"""Of an answer that came before the end of its request: so long what still comes is taken in."""
LINGER_BYTES_MAX: Final = 64 * 1024 * 1024
STALL_S: Final = 60.0
"""So long a client may take nothing of an answer that waits for it."""
FED_BYTES: Final = 32_768
"""So much is parsed at a time: requests that are sent ahead of time cost more than their bytes."""
_RESET: Final = struct.pack("ii", 1, 0)
log = logging.getLogger(__name__)

BAD_FRAMING: Final = "bad_framing"
"""The code of what is refused because another reader might find other requests in the same bytes.

The connection ends with that answer: what follows on it is nobody's request.
"""
_LOOKED_AT: Final = frozenset(
    {
        b"host",
        b"expect",
        b"transfer-encoding",
        b"content_length",
        b"transfer_encoding",
        b"upgrade",
    }
)
_FRAGMENT: Final = ord("#")
_VERSIONS: Final = frozenset({"1.0", "1.1"})


class Handler(Protocol):
    """What requests are for."""

    async def handle(self, inbound: Inbound, reply: Reply) -> None:
        """Answers, or raises what breaks the answer off."""
        ...

    async def refuse(self, path: str, refusal: Refusal, reply: Reply) -> None:
        """Answers what is no request, in the shape of where it went."""
        ...


class House(Protocol):
    """The server, as a connection sees it. `now` is the loop's time, not older than a second."""

    handler: Handler
    now: float
    date_line: bytes
    head_bytes_max: int
    is_closing: bool

    def enter(self, connection: "ClientConnection") -> bool:
        """Whether there is room for one more."""
        ...

    def leave(self, connection: "ClientConnection") -> None:
        """It is closed."""
        ...


class _EndOfInterest(Exception):
    """Nothing after this point of the input matters. Raised to stop the parser in its tracks."""


class ClientConnection(asyncio.Protocol):
    """Reads requests, hands them over one after the other, and keeps their order.

    `deadline` is the loop's time at which the server calls `expire`; None while a request is being
    answered, which has limits of its own.
    """

    __slots__ = (
        "_asks_upgrade",
        "_expects_continue",
        "_fault",
        "_head_s",
        "_headers",
        "_host",
        "_house",
        "_idle_s",
        "_is_chunked",
        "_is_in_head",
        "_is_lingering",
        "_is_reading_paused",
        "_is_write_paused",
        "_left_bytes",
        "_overhead_bytes",
        "_parser",
        "_reading",
        "_rest",
        "_serving",
        "_steps",
        "_target",
        "_task",
        "_transport",
        "_unsent_bytes",
        "_waiting",
        "_writable",
        "deadline",
    )

    def __init__(self, house: House, *, head_s: float, idle_s: float) -> None:
        self._house = house
        self._head_s = head_s
        self._idle_s = idle_s
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._target = b""
        self._headers: HeaderPairs = []
        self._host: bytes | None = None
        self._expects_continue = False
        self._is_chunked = False
        self._asks_upgrade = False
        self._reading: ClientRequest | None = None
        """The one whose body comes in."""
        self._serving: ClientRequest | None = None
        """The one that is being answered."""
        self._waiting: deque[tuple[Inbound, ClientRequest]] = deque()
        """Sent ahead of time; while there is one, no more is read."""
        self._rest: memoryview | None = None
        """Read, and not parsed yet because reading was paused in the middle of it."""
        self._task: asyncio.Task[None] | None = None
        self._fault: Refusal | None = None
        self._steps = 0
        """Grows with every head and every piece of a body."""
        self._overhead_bytes = 0
        self._left_bytes = LINGER_BYTES_MAX
        self._unsent_bytes = 0
        """What the transport held when it was looked at last: whether a slow client takes any."""
        self._is_in_head = False
        self._is_lingering = False
        self._is_reading_paused = False
        self._is_write_paused = False
        self._writable: asyncio.Future[None] | None = None
        self.deadline: float | None = None

    # What the transport tells it.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, because uvloop's transports are no subclasses of asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self.deadline = self._house.now + self._idle_s
        if not self._house.enter(self):
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._is_lingering:
            self._left_bytes -= len(data)
            if self._left_bytes < 0:
                self.abort()
        elif len(data) <= FED_BYTES:
            self._feed(data)
        else:
            self._feed_in_parts(memoryview(data))

    def eof_received(self) -> None:
        # A client that has closed looks the same: whoever wants an answer keeps both directions.
        serving = self._serving
        self._tell_gone()
        if serving is not None and serving.is_open_ended:
            self.abort()
        else:
            # What was written still goes out, if anybody takes it.
            self._await_sending()

    def connection_lost(self, _: Exception | None) -> None:
        self._house.leave(self)
        self._tell_gone()
        self._transport = None
        self.deadline = None
        # What holds this object's methods, or is held both ways, is undone by hand, at once.
        self._parser = self._reading = self._rest = None
        self._waiting.clear()

    def pause_writing(self) -> None:
        self._is_write_paused = True

    def resume_writing(self) -> None:
        self._is_write_paused = False
        self._wake_writer()

    # What the server does with it.

    def expire(self) -> None:
        """Its time is over."""
        transport = self._transport
        if transport is None:
            self.deadline = None
            return
        held_bytes, self._unsent_bytes = self._unsent_bytes, transport.get_write_buffer_size()
        if 0 < self._unsent_bytes < held_bytes:
            self.deadline = self._house.now + STALL_S
        elif self._is_lingering or self._is_write_paused or transport.is_closing():
            self.abort()
        elif self._serving is not None:
            self.deadline = None
        elif self._is_in_head:
            self._end_reading(_head_too_slow())
        else:
            self._close()

    def finish(self) -> None:
        """No more requests: closed at once when idle, else after the one under way."""
        if self._serving is not None:
            self._serving.keeps_alive = False
        elif not self._is_lingering:
            self._close()

    # What a request does with it.

    def write(self, content: bytes) -> bool:
        """Hand bytes to the transport. Whether the client keeps up; else `drain` is to be awaited."""
        if self._transport is not None:
            self._transport.write(content)
        return not self._is_write_paused

    async def drain(self) -> None:
        """Wait until the client has taken what it was given."""
        if self._is_write_paused and self._transport is not None:
            self._await_sending()
            self._writable = asyncio.get_running_loop().create_future()
            await self._writable

    def take_more(self) -> None:
        """What was held is read: the client may go on."""
        if not self._is_reading_paused or self._waiting or self._transport is None:
            return
        self._is_reading_paused = False
        rest, self._rest = self._rest, None
        if rest is not None:
            self._feed_in_parts(rest)
            if self._is_reading_paused:
                return
        self._transport.resume_reading()

    def date_line(self) -> bytes:
        """The `date` header, as of now."""
        return self._house.date_line

    def drop(self) -> None:
        """Close in a way that the client cannot take for an end."""
        transport, serving = self._transport, self._serving
        if transport is None or serving is None:
            return
        if serving.is_open_ended:
            self.abort()
        else:
            # What was sent gets there; that it is not whole shows by its framing.
            self._close()

    # Called by the parser, inside feed_data.

    def on_message_begin(self) -> None:
        self._target = b""
        self._headers = []
        self._host = None
        self._expects_continue = self._is_chunked = self._asks_upgrade = False
        self._reading = None
        self._is_in_head = True
        if self._serving is None:
            self.deadline = self._house.now + self._head_s

    def on_url(self, target: bytes) -> None:
        self._target += target

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._reading is not None:
            return  # A trailer, which is dropped.
        name, value = name.lower(), value.strip()
        self._headers.append((name, value))
        if name in _LOOKED_AT:
            self._look_at(name, value)

    def on_headers_complete(self) -> None:
        parser = self._parser
        version, target = parser.get_http_version(), self._target
        method = parser.get_method().decode()
        if self._asks_upgrade and parser.should_upgrade() and method != "CONNECT":
            return  # The parser takes its body for another protocol: see _reread.
        if version not in _VERSIONS:
            self._refuse(_malformed(f"HTTP/{version} is not served"))
        if len(target) > self._house.head_bytes_max:
            self._refuse(_head_too_large())
        path, _, query = target.partition(b"?")
        is_path = target[:1] == b"/" or (target == b"*" and method == "OPTIONS")
        if method == "CONNECT" or not is_path or _FRAGMENT in target:
            self._refuse(_malformed("this is no proxy: the target must be a path"))
        if self._is_chunked and version != "1.1":
            self._refuse(_malformed("HTTP/1.0 knows of no chunks"))
        if not self._host and (version == "1.1" or self._host is not None):
            self._refuse(_malformed("there must be one Host"))
        if len(self._headers) > HEADERS_MAX:
            self._refuse(_head_too_large())
        request = ClientRequest(
            self,
            is_head=method == "HEAD",
            is_http_11=version == "1.1",
            keeps_alive=parser.should_keep_alive() and not self._house.is_closing,
            expects_continue=self._expects_continue and version == "1.1",
        )
        self._reading = request
        self._is_in_head = False
        self._steps += 1
        inbound = Inbound(
            method,
            path.decode("latin-1"),
            query,
            self._headers,
            time.time_ns() // 1_000_000,
            time.monotonic_ns(),
        )
        if self._serving is None:
            self._serve(inbound, request)
        else:
            self._waiting.append((inbound, request))
            self._pause_reading()

    def on_body(self, body: bytes) -> None:
        reading = self._reading
        assert reading is not None
        self._steps += 1
        if reading.add(body):
            self._pause_reading()

    def on_message_complete(self) -> None:
        reading = self._reading
        if reading is not None:
            self._steps += 1
            reading.is_whole = True
            reading.wake()

    def _look_at(self, name: bytes, value: bytes) -> None:
        """What the parser lets pass and others read in their own ways. It has seen the lengths."""
        if name == b"host":
            if self._host is not None:
                self._refuse(_malformed("there must be one Host"))
            self._host = value
        elif name == b"expect":
            self._expects_continue = value.lower() == b"100-continue"
        elif name == b"upgrade":
            self._asks_upgrade = True
        elif name == b"transfer-encoding":
            if self._is_chunked or value.lower() != b"chunked":
                self._refuse(_malformed("the only transfer coding served is chunked, once"))
            self._is_chunked = True
        else:
            self._refuse(_malformed("a header that can be mistaken for framing"))

    def _refuse(self, refusal: Refusal) -> None:
        self._fault = refusal
        raise _EndOfInterest

    # How input gets to the parser.

    def _feed(self, data: bytes | memoryview) -> None:
        if self._fault is not None:
            return
        steps = self._steps
        while True:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = self._reread(data, upgrade.args[0])
                continue
            except httptools.HttpParserError as error:
                if self._fault is None and isinstance(error, httptools.HttpParserCallbackError):
                    log.error("client.parsing_failed", exc_info=error)
                self._end_reading(self._fault or _malformed(str(error)))
                return
            break
        if self._steps != steps:
            self._overhead_bytes = 0
            return
        # Heads, trailers and chunk extensions are bounded by what comes without any body.
        self._overhead_bytes += len(data)
        if self._overhead_bytes > self._house.head_bytes_max:
            self._end_reading(_head_too_large())

    def _feed_in_parts(self, data: memoryview) -> None:
        for at in range(0, len(data), FED_BYTES):
            if self._is_reading_paused:
                self._rest = data[at:]
                return
            self._feed(data[at : at + FED_BYTES])

    def _reread(self, data: bytes | memoryview, at: int) -> bytes:
        """The same request for a new parser, which does not hear that an upgrade would be welcome.

        We speak no other protocol, and may serve the request as if nobody had asked (RFC 9110
        7.8); the parser has passed over its body, which begins at `at`.
        """
        parser = self._parser
        version = parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (parser.get_method(), self._target, version)]
        has_heard = False
        for name, value in self._headers:
            # Of the two headers that it takes the other one stays: handlers look at it.
            said = _without_upgrade(value) if name == b"connection" else value
            has_heard = has_heard or said != value
            lines.append(b"%b: %b" % (name, said))
        if not has_heard:  # It would come here again, without end.
            self._end_reading(_malformed("an upgrade that nobody asks for"))
            return b""
        self._parser = httptools.HttpRequestParser(self)
        return b"\r\n".join(lines) + b"\r\n\r\n" + bytes(data[at:])

    # One request after the other.

    def _serve(self, inbound: Inbound, request: ClientRequest) -> None:
        self._serving = request
        self.deadline = None
        self._task = asyncio.get_running_loop().create_task(self._answer(inbound, request))

    async def _answer(self, inbound: Inbound, request: ClientRequest) -> None:
        try:
            await self._house.handler.handle(inbound, request)
        except Exception:
            log.exception("client.request_failed")
        finally:
            request.break_off()
            self._serving = self._task = None
            self._go_on(request)

    def _go_on(self, request: ClientRequest) -> None:
        """What comes after an answer."""
        if self._transport is None or self._transport.is_closing():
            return
        if not request.keeps_alive or self._house.is_closing:
            if request.is_whole and self._fault is None and not self._is_reading_paused:
                self._close()
            else:
                self._linger()
        elif self._waiting:
            self._serve(*self._waiting.popleft())
            self.take_more()
        elif self._fault is not None:
            self._tell(self._fault)
        else:
            limit_s = self._head_s if self._is_in_head else self._idle_s
            self.deadline = self._house.now + limit_s
            # The body that nobody has read is forgotten.
            if self._reading is request:
                self._reading = None
            self.take_more()

    def _end_reading(self, fault: Refusal) -> None:
        """Nothing more is read here, and what was wrong is told after the answers under way."""
        reading = self._reading
        if reading is not None and not reading.is_whole:
            # Of a body: whoever reads it answers.
            reading.is_cut = True
            reading.keeps_alive = False
            reading.wake()
        self._fault = fault
        if self._serving is None:
            self._tell(fault)

    def _tell(self, fault: Refusal) -> None:
        request = ClientRequest(
            self, is_head=False, is_http_11=True, keeps_alive=False, expects_continue=False
        )
        path = self._target.partition(b"?")[0].decode("latin-1")
        self._serving = request
        self.deadline = None
        self._task = asyncio.get_running_loop().create_task(self._say(path, fault, request))

    async def _say(self, path: str, fault: Refusal, request: ClientRequest) -> None:
        try:
            await self._house.handler.refuse(path, fault, request)
        except Exception:
            log.exception("client.refusal_failed")
        finally:
            request.break_off()
            self._serving = self._task = None
            self._go_on(request)

    def _pause_reading(self) -> None:
        if not self._is_reading_paused and self._transport is not None:
            self._is_reading_paused = True
            self._transport.pause_reading()

    def _wake_writer(self) -> None:
        writable, self._writable = self._writable, None
        if writable is not None and not writable.done():
            writable.set_result(None)

    # How it ends.

    def _tell_gone(self) -> None:
        """Nobody is there any more: whoever waits for the client hears of it."""
        for request in (self._serving, self._reading):
            if request is not None:
                request.is_gone = True
                request.wake()
        for _, request in self._waiting:
            request.is_gone = True
        self._wake_writer()

    def _linger(self) -> None:
        """A client that still sends would be reset before it has read the answer."""
        assert self._transport is not None
        self._is_lingering = True
        self._reading = self._rest = None
        self._waiting.clear()
        self.deadline = self._house.now + LINGER_S
        self._unsent_bytes = self._transport.get_write_buffer_size()
        self._transport.write_eof()
        if self._is_reading_paused:
            self._is_reading_paused = False
            self._transport.resume_reading()

    def _close(self) -> None:
        """What was written still goes out."""
        if self._transport is not None:
            self._await_sending()
            self._transport.close()

    def _await_sending(self) -> None:
        """As long as the client takes some of what is written."""
        if self._transport is not None:
            self.deadline = self._house.now + STALL_S
            self._unsent_bytes = self._transport.get_write_buffer_size()

    def abort(self) -> None:
        """At once."""
        transport = self._transport
        if transport is None:
            return
        if self._serving is not None or transport.get_write_buffer_size():
            # A plain end would tell the client of an answer without a length that it is whole.
            with contextlib.suppress(OSError):
                transport.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, _RESET
                )
        transport.abort()


def _without_upgrade(connection: bytes) -> bytes:
    tokens = [token.strip() for token in connection.split(b",")]
    return b", ".join(token for token in tokens if token.lower() != b"upgrade")


def _malformed(message: str) -> Refusal:
    return Refusal(
        400, "invalid_request_error", BAD_FRAMING, f"not HTTP/1.1 as it should be: {message}"
    )


def _head_too_large() -> Refusal:
    return Refusal(
        431, "invalid_request_error", "headers_too_large", "the request headers are too large"
    )


def _head_too_slow() -> Refusal:
    return Refusal(
        408, "invalid_request_error", "request_timeout", "the request did not arrive in time"
    )
