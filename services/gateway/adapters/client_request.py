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

_CR, _LF = b"\r\n"
"""As numbers: a text of one byte takes five times as long to look for."""
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_BODILESS: Final = frozenset({204, 304})
_ANY_ORIGIN: Final = [b"access-control-allow-origin: *"]
_STATUS_LINES: Final = {
    status.value: b"HTTP/1.1 %d %b" % (status.value, status.phrase.encode())
    for status in http.HTTPStatus
    if status.value >= 200
}
_OURS: Final = frozenset(
    {b"content-length", b"transfer-encoding", b"connection", b"keep-alive", b"date"}
)
"""Said once, by the server: of what a handler says of these only a length is heeded."""


class Line(Protocol):
    """The connection, as a request sees it."""

    def write(self, content: bytes) -> bool:
        """Hand bytes to the transport. Whether the client keeps up; else `drain` is to be awaited."""
        ...

    async def drain(self) -> None:
        """Wait until the client has taken what it was given."""
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
        self._allowed = [b"access-control-allow-origin: %b" % origin, b"vary: origin"]

    async def read_body(self, bytes_max: int) -> bytes:
        """The request body. Raises Refusal (413) past the limit, ClientLeft when it is cut."""
        self._held_bytes_max = bytes_max
        while not self.is_whole:
            if self.held_bytes > bytes_max:
                raise too_large(bytes_max)
            # What came before anybody read may have been enough to make the client wait.
            self._connection.take_more()
            if not self.is_whole:
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
        """Status, headers and the body in one go.

        Raises ValueError for headers that cannot be sent; then nothing was.
        """
        if self.is_gone:
            return
        head = self._head(status, headers, len(body))
        if self._is_bodiless:
            body = b""
        if len(body) <= _COPIED_BYTES_MAX:
            keeps_up = self._connection.write(head + body)
        else:
            self._connection.write(head)
            keeps_up = self._connection.write(body)
        self.has_ended = True
        if not keeps_up:
            await self._connection.drain()

    async def start(self, status: int, headers: HeaderPairs) -> None:
        """Status and headers; pieces follow. Raises ValueError as `whole` does."""
        if not self.is_gone:
            self._connection.write(self._head(status, headers, None))

    async def piece(self, body: bytes) -> None:
        """One piece of the body. Raises ValueError for more than the declared length."""
        if self.is_gone or self._is_bodiless or not body:
            return
        if self._left_bytes is not None:
            if len(body) > self._left_bytes:
                # The client would take what is over for the beginning of another answer.
                raise ValueError("a body that is longer than its declared length")
            self._left_bytes -= len(body)
        if self._is_chunked:
            body = b"%x\r\n%b\r\n" % (len(body), body)
        if not self._connection.write(body):
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
    def is_open_ended(self) -> bool:
        """Whether a client could take a part of this answer for the whole."""
        return (
            self.is_started
            and not self.has_ended
            and not self._is_chunked
            and self._left_bytes is None
        )

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
        if self.is_started:
            raise RuntimeError("an answer begins once")
        is_bodiless = self._is_head or status in _BODILESS
        # What is still to come of the request would be taken for the next one.
        keeps_alive = self.keeps_alive and self.is_whole
        declared: bytes | None = None
        lines = [_STATUS_LINES.get(status) or _odd_status_line(status)]
        for pair in headers:
            if pair[0] not in _OURS:
                lines.append(b": ".join(pair))
            elif pair[0] == b"content-length":
                declared = pair[1]
        lines += self._allowed
        said = b"".join(lines)
        if _CR in said or _LF in said:
            raise ValueError("a header with a line break in it")
        lines.append(self._connection.date_line())
        left_bytes: int | None = None
        is_chunked = False
        if body_bytes is not None and not is_bodiless:
            lines.append(b"content-length: %d" % body_bytes)
        elif status == 204:
            pass
        elif declared is not None:
            # As it is: of an answer to HEAD it is the length of the body that there would be.
            length_bytes = _length(declared)
            lines.append(b"content-length: %d" % length_bytes)
            left_bytes = None if is_bodiless else length_bytes
        elif status == 304:
            pass
        elif body_bytes is not None:
            lines.append(b"content-length: %d" % body_bytes)
        elif self._is_http_11:
            is_chunked = not is_bodiless
            lines.append(b"transfer-encoding: chunked")
        else:
            keeps_alive = False
        if not keeps_alive:
            lines.append(b"connection: close")
        elif not self._is_http_11:
            lines.append(b"connection: keep-alive")
        self.is_started = True
        self.keeps_alive = keeps_alive
        self._is_bodiless, self._is_chunked = is_bodiless, is_chunked
        self._left_bytes = left_bytes
        lines.append(b"\r\n")
        return b"\r\n".join(lines)


def _odd_status_line(status: int) -> bytes:
    if not 200 <= status <= 999:
        raise ValueError(f"{status} is no status of an answer")
    return b"HTTP/1.1 %d " % status


def _length(declared: bytes) -> int:
    if not declared.isdigit():
        raise ValueError("a length that is none")
    return int(declared)
