"""One request of a client, and the way its answer goes back."""

import asyncio
import http
from collections.abc import AsyncIterator
from typing import Final, Protocol

from gateway.ports import HeaderPairs
from gateway.values import ClientLeft, too_large

HELD_BYTES_MAX: Final = 65_536
"""Of a body that nobody reads yet; with more of it the client is made to wait."""
_COPIED_BYTES_MAX: Final = 65_536
"""A body that is longer is handed on beside its head, and not copied behind it."""

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_BODILESS: Final = frozenset({204, 304})
_ANY_ORIGIN: Final[HeaderPairs] = [(b"access-control-allow-origin", b"*")]
_STATUS_LINES: Final = {
    status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode())
    for status in http.HTTPStatus
}


class Line(Protocol):
    """The connection, as a request sees it."""

    def write(self, content: bytes) -> None:
        """Hand bytes to the transport."""
        ...

    async def drain(self) -> None:
        """Wait while the client takes less than it is given."""
        ...

    def take_more(self) -> None:
        """What was held is read: the client may go on."""
        ...

    def date_line(self) -> bytes:
        """The `date` header, as of now."""
        ...

    def drop(self) -> None:
        """Close in a way that the client cannot take for an end."""
        ...


class ClientRequest:
    """Implements Reply. Fields without a leading underscore belong to the connection too.

    `keeps_alive` says whether the client wants the connection for another request; `is_gone`, that
    nobody is there any more. `is_cut` is a body that will never be whole.
    """

    __slots__ = (
        "_allowed",
        "_connection",
        "_expects_continue",
        "_held_bytes_max",
        "_is_bodiless",
        "_is_chunked",
        "_is_head",
        "_is_http_11",
        "_left_bytes",
        "_parts",
        "_waiting",
        "has_ended",
        "held_bytes",
        "is_cut",
        "is_gone",
        "is_started",
        "is_whole",
        "keeps_alive",
    )

    def __init__(
        self,
        connection: Line,
        *,
        is_head: bool,
        is_http_11: bool,
        keeps_alive: bool,
        expects_continue: bool,
    ) -> None:
        self._connection = connection
        self._is_head = is_head
        self._is_http_11 = is_http_11
        self._expects_continue = expects_continue
        self._allowed = _ANY_ORIGIN
        self._parts: list[bytes] = []
        self._waiting: asyncio.Future[None] | None = None
        self._held_bytes_max = HELD_BYTES_MAX
        self._is_bodiless = False
        self._is_chunked = False
        self._left_bytes: int | None = None
        self.keeps_alive = keeps_alive
        self.held_bytes = 0
        self.is_whole = False
        self.is_cut = False
        self.is_gone = False
        self.is_started = False
        self.has_ended = False

    # What the connection tells it.

    def add(self, piece: bytes) -> bool:
        """More of the body. Whether the client has to wait until it is read."""
        self._parts.append(piece)
        self.held_bytes += len(piece)
        self.wake()
        return self.held_bytes > self._held_bytes_max

    def wake(self) -> None:
        """Whoever reads the body looks again."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    # What the gateway does with it.

    def for_origin(self, origin: bytes) -> None:
        """The answer is for a page of this origin."""
        self._allowed = [(b"access-control-allow-origin", origin), (b"vary", b"origin")]

    async def read_body(self, bytes_max: int) -> bytes:
        """The request body. Raises Refusal (413) past the limit, ClientLeft when it is cut."""
        self._held_bytes_max = bytes_max
        while not self.is_whole:
            if self.held_bytes > bytes_max:
                raise too_large(bytes_max)
            await self._arrival()
        if self.held_bytes > bytes_max:
            raise too_large(bytes_max)
        return self._take()

    async def pieces(self, bytes_max: int) -> AsyncIterator[bytes]:
        """The request body as it comes. Raises Refusal (413) past the limit, ClientLeft when cut.

        Reading slowly stops the client (back-pressure).
        """
        total_bytes = 0
        while True:
            if self._parts:
                piece = self._take()
                total_bytes += len(piece)
                if total_bytes > bytes_max:
                    raise too_large(bytes_max)
                yield piece
            elif self.is_whole:
                return
            else:
                await self._arrival()

    async def whole(self, status: int, headers: HeaderPairs, body: bytes) -> None:
        """Status, headers and the body in one go."""
        if self.is_gone:
            return
        head = self._head(status, headers, len(body))
        if self._is_bodiless:
            body = b""
        if len(body) <= _COPIED_BYTES_MAX:
            self._connection.write(head + body)
        else:
            self._connection.write(head)
            self._connection.write(body)
        self.has_ended = True
        await self._connection.drain()

    async def start(self, status: int, headers: HeaderPairs) -> None:
        """Status and headers; pieces follow."""
        if not self.is_gone:
            self._connection.write(self._head(status, headers, None))

    async def piece(self, body: bytes) -> None:
        """One piece of the body."""
        if self.is_gone or self._is_bodiless or not body:
            return
        if self._left_bytes is not None:
            self._left_bytes -= len(body)
        if self._is_chunked:
            body = b"%x\r\n%b\r\n" % (len(body), body)
        self._connection.write(body)
        await self._connection.drain()

    async def end(self) -> None:
        """The last byte."""
        if self.is_gone:
            return
        if self._left_bytes:
            self.break_off()
            return
        if self._is_chunked:
            self._connection.write(b"0\r\n\r\n")
        self.has_ended = True

    @property
    def is_framed(self) -> bool:
        """Whether a client can tell a part of this answer from the whole."""
        return self._is_chunked or self._left_bytes is not None

    def break_off(self) -> None:
        """No more of this answer: its client must not take it for whole."""
        if not self.has_ended and not self.is_gone:
            self.keeps_alive = False
            self._connection.drop()

    # How it is done.

    def _take(self) -> bytes:
        parts, self._parts = self._parts, []
        self.held_bytes = 0
        self._connection.take_more()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _arrival(self) -> None:
        """Until there is more of the body. Raises ClientLeft."""
        if self.is_gone or self.is_cut:
            raise ClientLeft
        if self._expects_continue:
            self._expects_continue = False
            self._connection.write(_CONTINUE)
        self._waiting = asyncio.get_running_loop().create_future()
        await self._waiting

    def _head(self, status: int, headers: HeaderPairs, body_bytes: int | None) -> bytes:
        """The head of the answer, which decides how its body is framed.

        Raises ValueError when a header would be read as several.
        """
        self.is_started = True
        self._is_bodiless = self._is_head or status in _BODILESS
        if not self.is_whole:
            # What is still to come of the request would be taken for the next one.
            self.keeps_alive = False
        length: bytes | None = None
        lines = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status]
        for name, value in (*headers, *self._allowed):
            if name == b"content-length":
                length = value
            lines.append(b"%b: %b\r\n" % (name, value))
        lines.append(self._connection.date_line())
        if length is not None:
            self._left_bytes = None if self._is_bodiless or body_bytes is not None else int(length)
        elif status not in _BODILESS:
            if body_bytes is not None:
                lines.append(b"content-length: %d\r\n" % body_bytes)
            elif self._is_http_11:
                self._is_chunked = not self._is_head
                lines.append(b"transfer-encoding: chunked\r\n")
            else:
                self.keeps_alive = False
        if not self.keeps_alive:
            lines.append(b"connection: close\r\n")
        elif not self._is_http_11:
            lines.append(b"connection: keep-alive\r\n")
        head = b"".join(lines)
        if head.count(b"\n") != len(lines) or head.count(b"\r") != len(lines):
            raise ValueError("a header with a line break in it")
        return head + b"\r\n"
