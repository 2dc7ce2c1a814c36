"""A TCP proxy that resets connections on demand, and stops at the seams of an insert."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

_RESET: Final = struct.pack("ii", 1, 0)
_PIECE_BYTES: Final = 65_536
_INSERT_MARK: Final = b"insert_deduplication_token="
"""Only inserts of ledger entries carry it; it stands in the request's first line."""

Step = Callable[[int], Awaitable[bool]]
"""Gets the client's port; False cuts the connection with a reset."""


async def go_on(_client_port: int) -> bool:
    """The step that does nothing."""
    return True


async def cut(_client_port: int) -> bool:
    """The step that cuts."""
    return False


class Seam:
    """One insert is stopped: `before` it reaches the server, `sent` once it was handed over,
    `after` the server has answered and before the client hears of it.
    """

    def __init__(self, *, before: Step = go_on, sent: Step = go_on, after: Step = go_on) -> None:
        self.before = before
        self.sent = sent
        self.after = after
        self.hit = asyncio.Event()
        self.passed = asyncio.Event()


@contextlib.contextmanager
def _shut(gate: asyncio.Event) -> Iterator[None]:
    gate.clear()
    try:
        yield
    finally:
        gate.set()


class Proxy:
    """Stands before one server; connections come and go, the port stays."""

    def __init__(self, port: int, server_port: int) -> None:
        self.port = port
        self.resets = 0
        self.passed_bytes = 0
        self.inserts = 0
        self.steps: set[asyncio.Future[bool]] = set()
        self._server_port = server_port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._seam: Seam | None = None
        self._is_heard = asyncio.Event()
        self._is_heard.set()
        self._is_told = asyncio.Event()
        self._is_told.set()

    async def start(self) -> None:
        """Listen. Raises OSError."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def stop(self) -> None:
        """End every connection."""
        assert self._server is not None
        self._server.close()
        self.reset()
        await asyncio.sleep(0.05)

    def reset(self) -> int:
        """Every connection ends with RST, what is under way is lost; how many there were."""
        writers = list(self._writers)
        for writer in writers:
            self._abort(writer)
        self._writers.clear()
        return len(writers)

    def unheard(self) -> contextlib.AbstractContextManager[None]:
        """While the block lasts the server does what it is told, and its answers stay here."""
        return _shut(self._is_heard)

    def untold(self) -> contextlib.AbstractContextManager[None]:
        """While the block lasts what the clients say stays here."""
        return _shut(self._is_told)

    async def may_pass(self, *, is_request: bool) -> None:
        """Wait while this direction is held up."""
        await (self._is_told if is_request else self._is_heard).wait()

    def arm(self, seam: Seam) -> Seam:
        """Stop the next insert of ledger entries at these seams, once."""
        self._seam = seam
        return seam

    def disarm(self) -> None:
        """Let everything pass."""
        self._seam = None

    def _abort(self, writer: asyncio.StreamWriter) -> None:
        peer: socket.socket | None = writer.get_extra_info("socket")
        if peer is not None:
            with contextlib.suppress(OSError):
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                self.resets += 1
        writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._server_port)
        except OSError:
            self._abort(writer)
            return
        pair = {writer, up_writer}
        self._writers |= pair
        connection = _Connection(self, reader, writer, up_reader, up_writer)
        try:
            await connection.run()
        finally:
            self._writers -= pair
            for each in pair:
                each.transport.abort()

    def take_seam(self, piece: bytes) -> Seam | None:
        """The armed seam when an insert begins here."""
        if _INSERT_MARK not in piece[:4096]:
            return None
        self.inserts += 1
        seam, self._seam = self._seam, None
        return seam

    def cut(self, *writers: asyncio.StreamWriter) -> None:
        """Reset these."""
        for writer in writers:
            self._abort(writer)


class _Connection:
    def __init__(
        self,
        proxy: Proxy,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        up_reader: asyncio.StreamReader,
        up_writer: asyncio.StreamWriter,
    ) -> None:
        self._proxy = proxy
        self._down = (reader, writer)
        self._up = (up_reader, up_writer)
        self._seam: Seam | None = None
        self._port: int = (writer.get_extra_info("peername") or ("", 0))[1]

    async def run(self) -> None:
        with contextlib.suppress(OSError):
            tasks = [
                asyncio.create_task(self._copy(self._down[0], self._up[1], is_request=True)),
                asyncio.create_task(self._copy(self._up[0], self._down[1], is_request=False)),
            ]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _copy(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_request: bool
    ) -> None:
        while piece := await reader.read(_PIECE_BYTES):
            self._proxy.passed_bytes += len(piece)
            if is_request and (seam := self._proxy.take_seam(piece)) is not None:
                seam.hit.set()
                self._seam = seam
                if not await self._step(seam.before):
                    self._cut()
                    return
                writer.write(piece)
                await writer.drain()
                if not await self._step(seam.sent):
                    self._cut()
                    return
                continue
            if not is_request and self._seam is not None:
                seam, self._seam = self._seam, None
                seam.passed.set()
                if not await self._step(seam.after):
                    self._cut()
                    return
            await self._proxy.may_pass(is_request=is_request)
            writer.write(piece)
            await writer.drain()

    async def _step(self, step: Step) -> bool:
        # To its end, also when the connection falls meanwhile: the fault is often the reason.
        running = asyncio.ensure_future(step(self._port))
        self._proxy.steps.add(running)
        running.add_done_callback(self._proxy.steps.discard)
        return await asyncio.shield(running)

    def _cut(self) -> None:
        self._proxy.cut(self._down[1], self._up[1])
