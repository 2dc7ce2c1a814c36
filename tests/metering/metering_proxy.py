"""Proxies that do harm at a chosen moment: one that knows HTTP requests, one that resets bytes."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

Harm = Callable[[bytes], str | None]


class _Listener:
    """Accepts connections and serves each in a task of its own."""

    def __init__(self, target_url: str) -> None:
        parts = urlsplit(target_url)
        assert parts.hostname is not None
        assert parts.port is not None
        self.scheme = parts.scheme
        self.target = (parts.hostname, parts.port)
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(
        self, serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
    ) -> None:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                try:
                    await serve(reader, writer)
                finally:
                    writer.transport.abort()

        self._server = await asyncio.start_server(accept, "127.0.0.1", 0, limit=1 << 26)

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"{self.scheme}://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class HttpProxy:
    """Forwards whole requests. `harm` sees each and names what to do with it.

    "cut": forward, then close without the answer. "hold": keep it until `release` is set, then
    forward it, whether or not its client still waits. "lose": close without forwarding.
    """

    def __init__(self, target_url: str) -> None:
        self._listener = _Listener(target_url)
        self.harm: Harm = lambda _: None
        self.release = asyncio.Event()
        self.harmed = asyncio.Event()
        self.requests: list[bytes] = []
        self.late_answers: list[bytes] = []

    async def __aenter__(self) -> "HttpProxy":
        await self._listener.start(self._serve)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._listener.stop()

    @property
    def url(self) -> str:
        return self._listener.url

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection(
            *self._listener.target, limit=1 << 26
        )
        try:
            while True:
                request = await _http_message(reader)
                self.requests.append(request)
                harm = self.harm(request)
                if harm is not None:
                    self.harmed.set()
                if harm == "lose":
                    return
                if harm == "hold":
                    await self.release.wait()
                upstream_writer.write(request)
                answer = await _http_message(upstream_reader)
                if harm is not None:
                    self.late_answers.append(answer)
                    return
                writer.write(answer)
                await writer.drain()
        finally:
            upstream_writer.transport.abort()


async def _http_message(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    lowered = head.lower()
    if b"transfer-encoding: chunked" in lowered:
        body = b""
        while True:
            line = await reader.readuntil(b"\r\n")
            chunk = await reader.readexactly(int(line, 16) + 2)
            body += line + chunk
            if int(line, 16) == 0:
                return head + body
    _, found, rest = lowered.partition(b"content-length:")
    return head + await reader.readexactly(int(rest.split(b"\r\n")[0]) if found else 0)


def first_insert(harm: str) -> Harm:
    """Do harm to the first insert of entries, once."""
    done = False

    def decide(request: bytes) -> str | None:
        nonlocal done
        if done or not is_insert(request):
            return None
        done = True
        return harm

    return decide


def is_insert(request: bytes) -> bool:
    """Whether a request inserts entries."""
    return b"INSERT+INTO+entries" in request.partition(b"\r\n")[0]


class ResettingProxy:
    """Forwards bytes and resets a connection whenever so many have come from the server."""

    def __init__(self, target_url: str) -> None:
        self._listener = _Listener(target_url)
        self.reset_after_bytes: int | None = None
        self.resets = 0

    async def __aenter__(self) -> "ResettingProxy":
        await self._listener.start(self._serve)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._listener.stop()

    @property
    def url(self) -> str:
        return self._listener.url

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection(*self._listener.target)
        sending = asyncio.create_task(self._send(reader, upstream_writer))
        passed = 0
        try:
            while data := await upstream_reader.read(1 << 14):
                passed += len(data)
                if self.reset_after_bytes is not None and passed > self.reset_after_bytes:
                    self.resets += 1
                    return
                writer.write(data)
                await writer.drain()
        finally:
            sending.cancel()
            upstream_writer.transport.abort()

    async def _send(self, reader: asyncio.StreamReader, upstream: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 14):
                upstream.write(data)
                await upstream.drain()
