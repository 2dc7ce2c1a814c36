"""A server that does what a test's script says, byte by byte, and remembers who connected."""

import asyncio
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable

from gateway.ports import Origin


class Peer:
    """One accepted connection, in the hands of a script."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def head(self) -> bytes:
        """A request's head, its empty line included."""
        return await self.reader.readuntil(b"\r\n\r\n")

    async def request(self) -> tuple[bytes, bytes]:
        """Head and body; a chunked body is given without its framing."""
        head = await self.head()
        lowered = head.lower()
        if b"\r\ntransfer-encoding: chunked" in lowered:
            body = b""
            while True:
                size = int(await self.reader.readline(), 16)
                piece = await self.reader.readexactly(size + 2)
                if not size:
                    return head, body
                body += piece[:-2]
        if b"\r\ncontent-length: " in lowered:
            length = int(lowered.split(b"\r\ncontent-length: ")[1].split(b"\r\n")[0])
            return head, await self.reader.readexactly(length)
        return head, b""

    async def send(self, data: bytes) -> None:
        """Out, in a segment of its own as far as the kernel allows."""
        self.writer.write(data)
        await self.writer.drain()

    async def send_apart(self, data: bytes, sizes: list[int]) -> None:
        """Out in pieces of the given sizes, a loop turn between them; the rest at the end."""
        for size in sizes:
            await self.send(data[:size])
            data = data[size:]
            await asyncio.sleep(0)
        await self.send(data)

    def reset(self) -> None:
        """End with RST instead of FIN."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def gone(self) -> bytes:
        """Returns when the client has closed; what it sent until then."""
        try:
            return await self.reader.read()
        except ConnectionError:
            return b""


Script = Callable[[Peer], Awaitable[None]]


class ScriptedServer:
    """The n-th connection runs the n-th script, later ones the last. Ends a connection after it."""

    def __init__(self, *scripts: Script) -> None:
        self.scripts = list(scripts)
        self.connection_count = 0
        self.failures: list[Exception] = []
        self._server: asyncio.Server | None = None
        self._peers: set[asyncio.Task[None]] = set()
        self.scheme = "http"
        self.port = 0

    async def start(self, tls: ssl.SSLContext | None = None, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port, ssl=tls)
        self.port = self._server.sockets[0].getsockname()[1]
        self.scheme = "https" if tls else "http"

    def origin(self, host: str = "127.0.0.1") -> Origin:
        return Origin(self.scheme, host, self.port)

    async def refuse(self) -> None:
        """Accept no more connections; those that are open stay."""
        assert self._server is not None
        self._server.close()

    async def everyone_gone(self) -> None:
        """Returns when every script has ended."""
        while self._peers:
            await asyncio.wait(list(self._peers))

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._peers):
            task.cancel()
        await self.everyone_gone()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        script = self.scripts[min(self.connection_count, len(self.scripts) - 1)]
        self.connection_count += 1
        task = asyncio.current_task()
        assert task is not None
        self._peers.add(task)
        try:
            await script(Peer(reader, writer))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # The client left, which is the other side's right.
        except asyncio.CancelledError:
            pass  # The test is over.
        except Exception as failure:
            self.failures.append(failure)
        finally:
            self._peers.discard(task)
            writer.transport.abort() if writer.transport.is_closing() else writer.close()


def answering(*answers: bytes) -> Script:
    """Answers requests one after another, each with the next bytes; then waits for the client."""

    async def script(peer: Peer) -> None:
        for answer in answers:
            await peer.request()
            await peer.send(answer)
        await peer.gone()

    return script


def ending(answer: bytes) -> Script:
    """Answers one request, and ends the connection."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer)

    return script


def plain(body: bytes, extra: bytes = b"") -> bytes:
    """A 200 answer with a length."""
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%b\r\n%b" % (len(body), extra, body)


def chunked(*pieces: bytes) -> bytes:
    """A 200 answer in chunks."""
    framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + framed + b"0\r\n\r\n"
