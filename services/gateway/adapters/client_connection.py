"""One HTTP/1.1 connection of a client: bytes into requests, one at a time, and how it ends.

The parser is strict, and says nothing twice: what two readers might take for different requests
(a length beside chunks, bare line feeds, blanks before colons, absolute targets) is refused.
"""

import asyncio
import logging
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
CLOSE_S: Final = 30.0
"""So long a client may take for the rest of an answer that is all there is."""
log = logging.getLogger(__name__)

BAD_FRAMING: Final = "bad_framing"
"""The code of what is refused because another reader might find other requests in the same bytes.

The connection ends with that answer: what follows on it is nobody's request.
"""
_LOOKED_AT: Final = frozenset(
    {b"host", b"expect", b"transfer-encoding", b"content_length", b"transfer_encoding"}
)
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
        "_serving",
        "_steps",
        "_target",
        "_task",
        "_transport",
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
        self._reading: ClientRequest | None = None
        """The one whose body comes in."""
        self._serving: ClientRequest | None = None
        """The one that is being answered."""
        self._waiting: deque[tuple[Inbound, ClientRequest]] = deque()
        """Sent ahead of time; while there is one, no more is read."""
        self._task: asyncio.Task[None] | None = None
        self._fault: Refusal | None = None
        self._steps = 0
        """Grows with every head and every piece of a body."""
        self._overhead_bytes = 0
        self._left_bytes = LINGER_BYTES_MAX
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
            return
        if self._fault is not None:
            return
        steps = self._steps
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # Another protocol begins here, of which we speak none: this request is the last.
            self._end_reading(None)
        except httptools.HttpParserError as error:
            self._end_reading(self._fault or _malformed(str(error)))
        else:
            if self._steps != steps:
                self._overhead_bytes = 0
                return
            # Heads, trailers and chunk extensions are bounded by what comes without any body.
            self._overhead_bytes += len(data)
            if self._overhead_bytes > self._house.head_bytes_max:
                self._end_reading(_head_too_large())

    def eof_received(self) -> None:
        # A client that has closed looks the same: whoever wants an answer keeps both directions.
        return

    def connection_lost(self, _: Exception | None) -> None:
        self._house.leave(self)
        self._transport = None
        self.deadline = None
        for request in (self._serving, self._reading):
            if request is not None:
                request.is_gone = True
                request.wake()
        self._waiting.clear()
        self._wake_writer()
        # The parser holds this object's methods: undone by hand, at once.
        self._parser = None

    def pause_writing(self) -> None:
        self._is_write_paused = True

    def resume_writing(self) -> None:
        self._is_write_paused = False
        self._wake_writer()

    # What the server does with it.

    def expire(self) -> None:
        """Its time is over."""
        if self._serving is not None or self._transport is None:
            self.deadline = None
        elif self._is_lingering or self._transport.is_closing():
            self.abort()
        elif self._is_in_head:
            self._end_reading(_head_too_slow())
        else:
            self._close()

    def finish(self) -> None:
        """No more requests: closed at once when idle, else after the one under way."""
        if self._serving is None:
            self._close()

    # What a request does with it.

    def write(self, content: bytes) -> None:
        """Hand bytes to the transport."""
        if self._transport is not None:
            self._transport.write(content)

    async def drain(self) -> None:
        """Wait while the client takes less than it is given."""
        if self._is_write_paused and self._transport is not None:
            self._writable = asyncio.get_running_loop().create_future()
            await self._writable

    def take_more(self) -> None:
        """What was held is read: the client may go on."""
        if self._is_reading_paused and not self._waiting and self._transport is not None:
            self._is_reading_paused = False
            self._transport.resume_reading()

    def date_line(self) -> bytes:
        """The `date` header, as of now."""
        return self._house.date_line

    def drop(self) -> None:
        """Close in a way that the client cannot take for an end."""
        transport, serving = self._transport, self._serving
        if transport is None or serving is None:
            return
        if serving.is_framed:
            # What was sent gets there; that it is not whole shows by its framing.
            self._close()
        else:
            self.abort()

    # Called by the parser, inside feed_data.

    def on_message_begin(self) -> None:
        self._target = b""
        self._headers = []
        self._host = None
        self._expects_continue = self._is_chunked = False
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
        if version not in _VERSIONS:
            self._refuse(_malformed(f"HTTP/{version} is not served"))
        if len(target) > self._house.head_bytes_max:
            self._refuse(_head_too_large())
        path, _, query = target.partition(b"?")
        is_path = target[:1] == b"/" or (target == b"*" and method == "OPTIONS")
        if method == "CONNECT" or not is_path or b"#" in target:
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
            expects_continue=self._expects_continue,
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
        assert reading is not None
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
        elif name == b"transfer-encoding":
            if self._is_chunked or value.lower() != b"chunked":
                self._refuse(_malformed("the only transfer coding served is chunked, once"))
            self._is_chunked = True
        else:
            self._refuse(_malformed("a header that can be mistaken for framing"))

    def _refuse(self, refusal: Refusal) -> None:
        self._fault = refusal
        raise _EndOfInterest

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
            if request.is_whole or request.is_cut:
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
            self.take_more()

    def _end_reading(self, fault: Refusal | None) -> None:
        """Nothing more is read here, and what was wrong is told after the answers under way."""
        reading, serving = self._reading, self._serving
        if reading is not None and not reading.is_whole:
            # Of a body: whoever reads it answers.
            reading.is_cut = True
            reading.keeps_alive = False
            reading.wake()
        elif fault is None and reading is not None:
            reading.keeps_alive = False
        self._fault = fault or _malformed("nothing is served after an upgrade")
        if serving is None:
            self._tell(self._fault)

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
        finally:
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

    def _linger(self) -> None:
        """A client that still sends would be reset before it has read the answer."""
        assert self._transport is not None
        self._is_lingering = True
        self.deadline = self._house.now + LINGER_S
        self._transport.write_eof()
        if self._is_reading_paused:
            self._is_reading_paused = False
            self._transport.resume_reading()

    def _close(self) -> None:
        """What was written still goes out."""
        if self._transport is not None:
            self.deadline = self._house.now + CLOSE_S
            self._transport.close()

    def abort(self) -> None:
        """At once."""
        if self._transport is not None:
            self._transport.abort()


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
