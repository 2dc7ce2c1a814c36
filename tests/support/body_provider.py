"""A provider of raw sockets: a test's own coroutine reads the request and writes the answer."""

import asyncio
import http.client
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from hashlib import sha256


class Request:
    """A request on its way in. `body` is read by `pieces` or `read`, without its framing."""

    def __init__(self, head: bytes, reader: asyncio.StreamReader) -> None:
        self.line, _, fields = head.partition(b"\r\n")
        self.headers = http.client.parse_headers(io.BytesIO(fields))
        self.reader = reader

    @property
    def target(self) -> str:
        """Path and query."""
        return self.line.split(b" ")[1].decode()

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes. Raises IncompleteReadError when it is cut."""
        if self.headers["transfer-encoding"] == "chunked":
            while size := int(await self.reader.readline(), 16):
                yield (await self.reader.readexactly(size + 2))[:-2]
            await self.reader.readexactly(2)
            return
        left = int(self.headers["content-length"] or 0)
        while left:
            piece = await self.reader.read(min(left, 65_536))
            if not piece:
                raise asyncio.IncompleteReadError(b"", left)
            left -= len(piece)
            yield piece

    async def read(self) -> bytes:
        """The whole body."""
        return b"".join([piece async for piece in self.pieces()])

    async def digest(self) -> tuple[int, bytes]:
        """Length and SHA-256 of the body."""
        length, hashed = 0, sha256()
        async for piece in self.pieces():
            length += len(piece)
            hashed.update(piece)
        return length, hashed.digest()


Answer = Callable[[Request, asyncio.StreamWriter], Awaitable[None]]


class BodyProvider:
    """`url` is where it listens. `was_cut` is set when a request's body did not arrive whole."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.url = ""
        self.asked = 0
        self.was_asked = asyncio.Event()
        self.was_cut = asyncio.Event()
        self.has_ended = asyncio.Event()
        """A connection has ended, whoever ended it."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.asked += 1
                self.was_asked.set()
                try:
                    await self.answer(Request(head, reader), writer)
                except (asyncio.IncompleteReadError, ConnectionError):
                    self.was_cut.set()
                    raise
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.has_ended.set()
            writer.close()


@asynccontextmanager
async def body_provider(answer: Answer) -> AsyncIterator[BodyProvider]:
    """One, until the end of the block."""
    provider = BodyProvider(answer)
    server = await asyncio.start_server(provider.serve, "127.0.0.1", 0)
    provider.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield provider
    finally:
        server.close()


def plain(
    body: bytes, content_type: bytes = b"application/json", status: bytes = b"200 OK"
) -> bytes:
    """An answer with a length."""
    return b"HTTP/1.1 %b\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n%b" % (
        status,
        content_type,
        len(body),
        body,
    )
