"""One HTTP/1.1 connection of the fast engine: its transport, its deadline, its end."""

import asyncio
from typing import Protocol, cast

from gateway.adapters.answer_parser import AnswerParser
from gateway.adapters.fast_response import FastResponse
from gateway.adapters.tick_clock import NEVER, TickClock
from gateway.adapters.upstream_settings import UpstreamSettings
from gateway.ports import (
    ReadTimedOut,
    ResetBeforeResponse,
    ResponseCut,
    UpstreamError,
    WriteTimedOut,
)


class Keeper(Protocol):
    """The pool, as a connection sees it."""

    def release(self, connection: "FastConnection") -> None:
        """The connection is idle and fit for another request."""
        ...

    def forget(self, connection: "FastConnection") -> None:
        """The connection is closed, or as good as."""
        ...


class FastConnection(asyncio.Protocol):
    """Serves one request at a time. Fields without a leading underscore belong to the pool too."""

    __slots__ = (
        "_clock",
        "_idle_ticks",
        "_is_cut_short",
        "_is_sending",
        "_is_write_paused",
        "_keeper",
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
        "is_closed",
        "transport",
    )

    def __init__(self, keeper: Keeper, clock: TickClock, settings: UpstreamSettings) -> None:
        self._keeper = keeper
        self._clock = clock
        self._settings = settings
        self._parser = AnswerParser(settings)
        self._response: FastResponse | None = None
        self._read_ticks = 0
        self._write_ticks = clock.ticks(settings.write_timeout_s)
        self._idle_ticks = clock.ticks(settings.idle_timeout_s)
        self._is_sending = False
        self._is_cut_short = False
        self._is_write_paused = False
        self._unsent_bytes = 0
        self._writable: asyncio.Future[None] | None = None
        self.transport: asyncio.Transport | None = None
        self.deadline_tick = NEVER
        self.idle_since_tick = 0
        self.is_closed = False
        self.answers = 0

    # What the engine does with it.

    def begin(self, read_ticks: int, *, is_head_request: bool) -> FastResponse:
        """Expect an answer to what is about to be written."""
        self._response = response = FastResponse(self)
        self._parser.expect(response, is_head_request=is_head_request)
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
        """Wait until the transport has sent what it was given, or the connection has ended."""
        if self._is_write_paused and not self.is_closed:
            self._writable = asyncio.get_running_loop().create_future()
            await self._writable

    def start_sending(self) -> None:
        """A body follows piece by piece; silence until its end is not the upstream's."""
        self._is_sending = True
        if not self._is_write_paused:
            self.deadline_tick = NEVER

    def stop_sending(self) -> None:
        """The body is written whole; from here on the upstream is waited for."""
        self._is_sending = False
        if not self._is_write_paused:
            self.deadline_tick = self._clock.tick + self._read_ticks

    def give_up_sending(self) -> None:
        """The answer came first: the rest stays unsent, and the connection serves no other."""
        if self._is_sending:
            self._is_cut_short = True
            self.stop_sending()

    def is_untouched(self) -> bool:
        """Whether nothing of an answer has come since `begin`."""
        return self._parser.is_untouched()

    def idle_ticks_max(self) -> int:
        """How long it may stay idle: as set, or a little less than the server said."""
        server_s = self._parser.idle_s
        if server_s is None:
            return self._idle_ticks
        # A second early: the request must arrive before the server has given up.
        return min(self._idle_ticks, self._clock.ticks(max(server_s - 1, 0)))

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
        else:
            self._fail(ReadTimedOut("the upstream went silent"))

    def abort(self) -> None:
        """Close at once. Idempotent; the reader of an unfinished answer gets an error."""
        if self.is_closed:
            return
        self.is_closed = True
        self.deadline_tick = NEVER
        response, self._response = self._response, None
        if response is not None:
            if response.error is None:
                response.error = ResponseCut("the connection was closed here")
            response.wake()
        self._wake_writer()
        self._parser.dispose()
        self._keeper.forget(self)
        if self.transport is not None:
            self.transport.abort()

    # What the transport tells it.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, because uvloop's transports are no subclasses of asyncio's.
        self.transport = cast("asyncio.Transport", transport)
        # Paused means that something is unsent. One and not zero: uvloop's TLS transport pauses at
        # the mark and not above it, so that zero would pause it with nothing to send.
        self.transport.set_write_buffer_limits(high=1, low=0)

    def data_received(self, data: bytes) -> None:
        response = self._response
        if response is None:
            # Nothing was asked: what comes now would be taken for the next answer.
            self.abort()
            return
        parser = self._parser
        status, buffered_bytes = response.status, response.buffered_bytes
        fault = parser.feed(data)
        if fault is not None:
            self._fail(fault)
            return
        if parser.is_complete:
            self._finish(response)
            return
        if response.buffered_bytes == buffered_bytes and response.status == status:
            # Only the final head and pieces of the body count as a sign of life.
            return
        self.deadline_tick = self._clock.tick + self._read_ticks
        if response.buffered_bytes >= self._settings.read_buffer_bytes:
            self.deadline_tick = NEVER
            if not response.is_paused and self.transport is not None:
                response.is_paused = True
                self.transport.pause_reading()
        response.wake()

    def eof_received(self) -> None:
        # Over TLS this means a proper end; a wire that was cut goes straight to connection_lost.
        response = self._response
        if response is not None and self._parser.finish():
            self._finish(response)
        else:
            self._end_of_input(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_of_input(exc)
        self._clock.forget(self)

    def pause_writing(self) -> None:
        self._is_write_paused = True
        if self.transport is not None:
            self._unsent_bytes = self.transport.get_write_buffer_size()
        self.deadline_tick = self._clock.tick + self._write_ticks

    def resume_writing(self) -> None:
        self._is_write_paused = False
        self.deadline_tick = NEVER if self._is_sending else self._clock.tick + self._read_ticks
        self._wake_writer()

    # How it ends.

    def _finish(self, response: FastResponse) -> None:
        response.is_whole = True
        response.source = None
        self._response = None
        self.answers += 1
        is_request_out = not (self._is_sending or self._is_cut_short or self._is_write_paused)
        if self._parser.is_reusable and is_request_out:
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

    def _wake_writer(self) -> None:
        writable, self._writable = self._writable, None
        if writable is not None and not writable.done():
            writable.set_result(None)
