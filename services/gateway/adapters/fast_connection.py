"""One HTTP/1.1 connection of the fast engine: bytes in, answers out, every limit on the way."""

import asyncio
import re
from typing import Final, Protocol, cast

import httptools

from gateway.adapters.fast_response import FastResponse
from gateway.adapters.tick_clock import NEVER, TickClock
from gateway.adapters.upstream_settings import UpstreamSettings
from gateway.ports import (
    HeaderPairs,
    MalformedResponse,
    ReadTimedOut,
    ResetBeforeResponse,
    ResponseCut,
    ResponseTooLarge,
    UpstreamError,
    WriteTimedOut,
)

_PREFIX: Final = b"HTTP/1."
_KEEP_ALIVE_TIMEOUT: Final = re.compile(rb"(?:^|[,;\s])timeout=\"?(\d{1,9})")


class Keeper(Protocol):
    """The pool, as a connection sees it."""

    def release(self, connection: "FastConnection") -> None:
        """The connection is idle and fit for another request."""
        ...

    def forget(self, connection: "FastConnection") -> None:
        """The connection is closed, or as good as."""
        ...


class _EndOfInterest(Exception):
    """Nothing after this point of the input matters."""


class FastConnection(asyncio.Protocol):
    """Serves one request at a time. Fields without a leading underscore belong to the pool too."""

    __slots__ = (
        "_clock",
        "_fault",
        "_headers",
        "_held",
        "_idle_ticks",
        "_informational_heads",
        "_is_complete",
        "_is_head_request",
        "_is_keepable",
        "_is_spoiled",
        "_is_write_paused",
        "_keeper",
        "_overhead_bytes",
        "_parser",
        "_read_ticks",
        "_response",
        "_settings",
        "_unsent_bytes",
        "_writable",
        "_write_ticks",
        "answers",
        "deadline_tick",
        "idle_since_tick",
        "idle_ticks_max",
        "is_closed",
        "is_sending",
        "transport",
    )

    def __init__(
        self,
        keeper: Keeper,
        clock: TickClock,
        settings: UpstreamSettings,
    ) -> None:
        self._keeper = keeper
        self._clock = clock
        self._settings = settings
        self._write_ticks = clock.ticks(settings.write_timeout_s)
        self._read_ticks = 0
        self._response: FastResponse | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._headers: HeaderPairs = []
        self._held = b""
        self._fault: UpstreamError | None = None
        self._informational_heads = 0
        self._overhead_bytes = 0
        self._is_complete = False
        self._is_keepable = False
        self._is_spoiled = False
        self._is_head_request = False
        self._is_write_paused = False
        self._unsent_bytes = 0
        self._writable: asyncio.Future[None] | None = None
        self.transport: asyncio.Transport | None = None
        self.deadline_tick = NEVER
        self.idle_since_tick = 0
        self.idle_ticks_max = clock.ticks(settings.idle_timeout_s)
        self.is_closed = False
        self.is_sending = False
        self.answers = 0

    # What the engine does with it.

    def begin(self, read_ticks: int, *, is_head_request: bool) -> FastResponse:
        """Expect an answer to what is about to be written."""
        response = FastResponse(self)
        self._response = response
        self._is_complete = False
        self._is_head_request = is_head_request
        self._informational_heads = 0
        self._overhead_bytes = 0
        self._read_ticks = read_ticks
        self.deadline_tick = self._clock.tick + read_ticks
        return response

    def write(self, pieces: tuple[bytes, ...]) -> bool:
        """Hand bytes to the transport. False when surely none of them has left."""
        transport = self.transport
        if transport is None or self.is_closed:
            return False
        try:
            if len(pieces) == 1:
                transport.write(pieces[0])
            else:
                transport.writelines(pieces)
        except RuntimeError:  # The handle is gone and connection_lost is on its way.
            return False
        return not transport.is_closing()

    async def drain(self) -> None:
        """Wait until the transport takes more. Raises the error that ended the connection."""
        if self._is_write_paused:
            self._writable = asyncio.get_running_loop().create_future()
            await self._writable

    def start_sending(self) -> None:
        """A body follows piece by piece; silence until its end is not the upstream's."""
        self.is_sending = True
        if not self._is_write_paused:
            self.deadline_tick = NEVER

    def stop_sending(self) -> None:
        """The body is written whole; from here on the upstream is waited for."""
        self.is_sending = False
        if not self._is_write_paused:
            self.deadline_tick = self._clock.tick + self._read_ticks

    def give_up_sending(self) -> None:
        """The answer came first: the rest stays unsent, and the connection serves no other."""
        if self.is_sending:
            self._is_spoiled = True
            self.stop_sending()

    def is_untouched(self) -> bool:
        """Whether nothing of an answer has come since `begin`."""
        return not self._overhead_bytes and not self._held

    def resume(self) -> None:
        if self.transport is not None and not self.is_closed:
            self.deadline_tick = self._clock.tick + self._read_ticks
            self.transport.resume_reading()

    def expire(self) -> None:
        response = self._response
        if response is None:
            self.abort()
        elif self._is_write_paused and not response.status:
            unsent_bytes = self.transport.get_write_buffer_size() if self.transport else 0
            if unsent_bytes < self._unsent_bytes:
                self._unsent_bytes = unsent_bytes
                self.deadline_tick = self._clock.tick + self._write_ticks
            else:
                self._fail(WriteTimedOut("the upstream stopped taking the request"))
        elif self.is_sending:
            self.deadline_tick = NEVER
        else:
            self._fail(ReadTimedOut("the upstream went silent"))

    def abort(self) -> None:
        """Close at once. Idempotent; the reader of an unfinished answer gets an error."""
        if self.is_closed:
            return
        self.is_closed = True
        response, self._response = self._response, None
        if response is not None and not response.is_whole:
            if response.error is None:
                response.error = ResponseCut("the connection was closed here")
            response.wake()
        writable, self._writable = self._writable, None
        if writable is not None and not writable.done():
            writable.set_result(None)
        self.deadline_tick = NEVER
        self._keeper.forget(self)
        if self.transport is not None:
            self.transport.abort()
        # The parser holds this object's methods: without this line only the collector ends both.
        self._parser = None

    # What the transport tells it.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, because uvloop's transports are no subclasses of asyncio's.
        self.transport = cast("asyncio.Transport", transport)
        # Paused means that something is unsent. One and not zero: uvloop's TLS transport pauses at
        # the mark and not above it, so that zero would pause it with nothing to send.
        self.transport.set_write_buffer_limits(high=1, low=0)
        self._clock.watch(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_of_input(exc)
        self.abort()
        self._clock.forget(self)

    def eof_received(self) -> None:
        response = self._response
        if response is not None and response.status and _ends_with_connection(response.headers):
            self._is_complete = True
            self._is_keepable = False
            self._finish(response)
        else:
            self._end_of_input(None)

    def pause_writing(self) -> None:
        self._is_write_paused = True
        if self.transport is not None:
            self._unsent_bytes = self.transport.get_write_buffer_size()
        self.deadline_tick = self._clock.tick + self._write_ticks

    def resume_writing(self) -> None:
        self._is_write_paused = False
        self.deadline_tick = NEVER if self.is_sending else self._clock.tick + self._read_ticks
        writable, self._writable = self._writable, None
        if writable is not None and not writable.done():
            writable.set_result(None)

    def data_received(self, data: bytes) -> None:
        response = self._response
        if response is None:
            # Nothing was asked: what comes now would be taken for the next answer.
            self.abort()
            return
        if not response.status and not self._overhead_bytes:
            if self._held:
                data = self._held + data
                self._held = b""
            if not data.startswith(_PREFIX):
                if _PREFIX.startswith(data):
                    self._held = data
                else:
                    self._fail(MalformedResponse("the answer does not begin with HTTP/1."))
                return
        status = response.status
        buffered_bytes = response.buffered_bytes
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self._is_complete:
                self._fail(self._fault or MalformedResponse(f"not HTTP/1.1: {error}"))
                return
            self._is_spoiled = True
        if self._is_complete:
            self._finish(response)
            return
        if response.buffered_bytes == buffered_bytes:
            self._overhead_bytes += len(data)
            if self._overhead_bytes > self._settings.head_bytes_max:
                self._fail(ResponseTooLarge("head, trailer or chunk extension is too long"))
                return
            if response.status == status:
                return
        else:
            self._overhead_bytes = 0
        # Only the final head and pieces of the body count as a sign of life.
        self.deadline_tick = self._clock.tick + self._read_ticks
        if response.buffered_bytes >= self._settings.read_buffer_bytes:
            self.deadline_tick = NEVER
            if not response.is_paused and self.transport is not None:
                response.is_paused = True
                self.transport.pause_reading()
        response.wake()

    # What the parser tells it, inside feed_data.

    def on_message_begin(self) -> None:
        if self._is_complete:
            raise _EndOfInterest
        self._headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        response = self._response
        assert response is not None
        headers = self._headers
        if status < 200:
            self._pass_over(status)
            return
        transfer_codings = None
        size_bytes = 0
        for name, value in headers:
            length = len(name)
            size_bytes += length + len(value) + 4
            if length == 17:
                if name.lower() == b"transfer-encoding":
                    transfer_codings = value if transfer_codings is None else b"twice"
            elif length == 10 and name.lower() == b"keep-alive":
                self._obey_keep_alive(value)
        if size_bytes > self._settings.head_bytes_max:
            self._refuse(ResponseTooLarge("the head is too long"))
        if transfer_codings is not None and (
            transfer_codings.strip().lower() != b"chunked"
            or self._parser.get_http_version() != "1.1"
        ):
            self._refuse(MalformedResponse("a transfer coding other than chunked"))
        response.headers = headers
        response.status = status
        # Trailers, if any, end in this list and are dropped.
        self._headers = []
        if self._is_head_request:
            # The parser cannot be told that no body follows, so it is not used again.
            self._is_complete = self._is_spoiled = True
            raise _EndOfInterest

    def on_body(self, body: bytes) -> None:
        response = self._response
        assert response is not None
        response.parts.append(body)
        response.buffered_bytes += len(body)

    def on_message_complete(self) -> None:
        response = self._response
        assert response is not None
        if response.status:
            self._is_complete = True
            self._is_keepable = self._parser.should_keep_alive()

    # How it ends.

    def _pass_over(self, status: int) -> None:
        if status < 100 or status == 101:
            self._refuse(MalformedResponse(f"status {status} answers no request of ours"))
        self._informational_heads += 1
        if self._informational_heads > self._settings.informational_heads_max:
            self._refuse(MalformedResponse("too many informational heads"))

    def _refuse(self, fault: UpstreamError) -> None:
        self._fault = fault
        raise _EndOfInterest

    def _obey_keep_alive(self, value: bytes) -> None:
        found = _KEEP_ALIVE_TIMEOUT.search(value)
        if found:
            # A second early: the request must arrive before the server has given up.
            seconds = max(int(found.group(1)) - 1, 0)
            seconds_max = self._settings.idle_timeout_s
            self.idle_ticks_max = self._clock.ticks(min(seconds, seconds_max))

    def _finish(self, response: FastResponse) -> None:
        response.is_whole = True
        response.source = None
        self._response = None
        self._headers = []
        self.answers += 1
        if (
            self._is_keepable
            and not self._is_spoiled
            and not self.is_sending
            and not self._is_write_paused
            and not self.is_closed
        ):
            if response.is_paused and self.transport is not None:
                self.transport.resume_reading()
            self._keeper.release(self)
        else:
            self.abort()
        response.wake()

    def _end_of_input(self, exc: Exception | None) -> None:
        response = self._response
        if response is None:
            self.abort()
        elif response.status:
            self._fail(ResponseCut(f"the connection ended inside the body: {exc or 'closed'}"))
        else:
            self._fail(
                ResetBeforeResponse(f"the connection ended before a head: {exc or 'closed'}")
            )

    def _fail(self, error: UpstreamError) -> None:
        response = self._response
        if response is not None and response.error is None:
            response.error = error
        self.abort()


def _ends_with_connection(headers: HeaderPairs) -> bool:
    """Whether a body without its own length is whole when the connection ends."""
    return not any(name.lower() in (b"content-length", b"transfer-encoding") for name, _ in headers)
