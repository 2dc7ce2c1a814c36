"""A TCP proxy that can cut every connection through it with a reset."""

import asyncio
import contextlib
import socket
import struct
from urllib.parse import urlsplit

_RESET = struct.pack("ii", 1, 0)


class ResettingProxy:
    """Stands before a server; `url` is what clients connect to."""

    def __init__(self, upstream_url: str) -> None:
        parts = urlsplit(upstream_url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 4222
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._clients: set[asyncio.StreamWriter] = set()
        self.resets = 0
        self.passed_bytes = 0

    async def __aenter__(self) -> "ResettingProxy":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server is not None
        self._server.close()
        self.reset()
        await asyncio.sleep(0.05)

    @property
    def url(self) -> str:
        """Where it listens."""
        assert self._server is not None
        return f"nats://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def reset(self) -> None:
        """Every connection ends with RST, what is under way in either direction is lost."""
        for writer in list(self._writers):
            found: socket.socket = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                self.resets += 1
            writer.transport.abort()
        self._writers.clear()

    def say(self, line: bytes) -> None:
        """Every client hears this of its server, and is hung up on."""
        for client in self._clients:
            client.write(line)
            client.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await asyncio.open_connection(self._host, self._port)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, up_writer}
        self._clients.add(writer)
        await asyncio.gather(self._copy(reader, up_writer), self._copy(up_reader, writer))
        self._writers -= {writer, up_writer}
        self._clients.discard(writer)

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(65536):
                self.passed_bytes += len(piece)
                writer.write(piece)
                await writer.drain()
        writer.transport.abort()
