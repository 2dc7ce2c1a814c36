"""What open streams and large bodies cost one data worker in memory.

    PYTHONPATH=tests python -m bench.idle_streams [--streams 2000] [--megabytes 300]

A gateway with one data worker forwards to a provider in this process. One body goes up as a file,
one as a form whose model must be checked, and one comes down, while the worker's resident memory is
looked at every 5 ms; then so many streams of chat completions are opened, each of which has had one
event and waits for the next.
"""

import argparse
import asyncio
import resource
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
from support.body_provider import Request, body_provider, plain
from support.programs import Gateway
from support.servers import RunningServer
from support.stores import NatsServer
from support.workers import worker_facts

from infra.embedded.postgres import POSTGRES
from infra.migrations.postgres import migrate_postgres
from infra.migrations.settings import MigrationSettings
from runtime.settings import Secret

MIB = 1024 * 1024
KIB = 1024
AT_ONCE = 50
PIECE = bytes(range(256)) * 256
EVENT = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"Hello"}}],"usage":null}\n\n'
STREAM = (
    b'{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"'
    + b"Say hello to everybody. " * 20
    + b'"}]}'
)
FORM_HEAD = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.mp3"\r\n\r\n'
FORM_END = b'\r\n--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n--b--\r\n'


class Provider:
    """Streams wait for `go_on`; everything else is read and answered."""

    def __init__(self, size: int) -> None:
        self.go_on = asyncio.Event()
        self.size = size

    async def answer(self, request: Request, writer: asyncio.StreamWriter) -> None:
        """One request."""
        await request.digest()
        if request.target.endswith("/chat/completions"):
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
                b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(EVENT), EVENT)
            )
            await writer.drain()
            await self.go_on.wait()
            end = b"data: [DONE]\n\n"
            writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(end), end))
        elif request.target.endswith("/content"):
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\n"
                b"content-length: %d\r\n\r\n" % self.size
            )
            for _ in range(self.size // len(PIECE)):
                writer.write(PIECE)
                await writer.drain()
        else:
            writer.write(plain(b'{"id":"file-1"}'))


@asynccontextmanager
async def watched(worker: psutil.Process, what: str) -> AsyncIterator[None]:
    """Prints how far the worker's memory rose meanwhile, and how long that took."""
    before = peak = worker.memory_info().rss

    async def watch() -> None:
        nonlocal peak
        while True:
            peak = max(peak, worker.memory_info().rss)
            await asyncio.sleep(0.005)

    watching = asyncio.create_task(watch())
    began = time.perf_counter()
    try:
        yield
    finally:
        took_s = time.perf_counter() - began
        watching.cancel()
    print(
        f"{what}: {took_s:.1f} s, resident {before / MIB:.1f} MiB before,"
        f" peak {peak / MIB:.1f} MiB (+{(peak - before) / MIB:.1f})"
    )


def batches(streams: int) -> list[int]:
    """How many are opened at once, one batch after the other."""
    return [min(AT_ONCE, streams - opened) for opened in range(0, streams, AT_ONCE)]


class Client:
    """One connection to the gateway; answers are checked for their status only."""

    def __init__(self, gateway: Gateway, key: str) -> None:
        self._port = gateway.proxy_port
        self._key = key

    async def ask(
        self, line: bytes, *lines: bytes
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection with the head of a request on it."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        head = [line + b" HTTP/1.1", b"host: x", b"authorization: Bearer " + self._key.encode()]
        writer.write(b"\r\n".join([*head, *lines, b"", b""]))
        return reader, writer

    async def stream(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A stream whose first event is here."""
        reader, writer = await self.ask(
            b"POST /v1/chat/completions",
            b"content-type: application/json",
            b"content-length: %d" % len(STREAM),
        )
        writer.write(STREAM)
        await reader.readuntil(EVENT)
        return reader, writer

    async def send(self, line: bytes, content_type: bytes, *parts: bytes) -> None:
        """A body of these parts, as fast as they are taken."""
        reader, writer = await self.ask(
            line, b"content-type: " + content_type, b"content-length: %d" % sum(map(len, parts))
        )
        for part in parts:
            writer.write(part)
            await writer.drain()
        status = await reader.readline()
        writer.close()
        assert b" 200 " in status, status

    async def fetch(self, line: bytes, size: int) -> None:
        """A body of this size."""
        reader, writer = await self.ask(line)
        status = (await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")[0]
        assert b" 200 " in status, status
        while size:
            piece = await reader.read(min(size, MIB))
            assert piece, "the body was cut"
            size -= len(piece)
        writer.close()


def measure_in(directory: Path, streams: int, size: int) -> None:
    """Starts a Postgres, a NATS and a gateway of its own."""
    postgres = RunningServer(POSTGRES, directory)
    nats = NatsServer(directory)
    gateway: Gateway | None = None
    try:
        postgres.start()
        nats.start()
        asyncio.run(migrate_postgres(MigrationSettings(postgres_url=Secret(postgres.url))))
        asyncio.run(nats.migrate())
        gateway = Gateway(directory, {"POSTGRES_URL": postgres.url, "NATS_URL": nats.url})
        gateway.start_ready()
        asyncio.run(measure(gateway, streams, size))
        gateway.stop()
        gateway = None
    finally:
        if gateway is not None:
            gateway.kill()
        nats.kill()
        postgres.stop()


async def measure(gateway: Gateway, streams: int, size: int) -> None:
    """Everything, one after the other."""
    provider = Provider(size)
    async with body_provider(provider.answer) as server:
        setting = await asyncio.to_thread(gateway.setting, server.url)
        await asyncio.to_thread(gateway.key, "sk-free", setting)
        await asyncio.to_thread(
            lambda: gateway.key("sk-checked", setting, allowedModels=["whisper-1"])
        )
        await asyncio.to_thread(gateway.wait_until, lambda: bool(worker_facts(gateway)))
        [facts] = worker_facts(gateway)
        worker = psutil.Process(facts.pid)
        client = Client(gateway, "sk-free")
        pieces = [PIECE] * (size // len(PIECE))
        bodies: list[tuple[str, Callable[[], Awaitable[object]]]] = [
            (
                "upload, streamed",
                lambda: client.send(
                    b"POST /api/providers/openai/v1/files", b"application/octet-stream", *pieces
                ),
            ),
            (
                "upload, spooled until its model is known",
                lambda: Client(gateway, "sk-checked").send(
                    b"POST /api/providers/openai/v1/audio/transcriptions",
                    b"multipart/form-data; boundary=b",
                    FORM_HEAD,
                    *pieces,
                    FORM_END,
                ),
            ),
            (
                "download",
                lambda: client.fetch(
                    b"GET /api/providers/openai/v1/files/file-1/content", len(PIECE) * len(pieces)
                ),
            ),
        ]
        for what, body in bodies:
            async with watched(worker, f"{size // MIB} MiB {what}"):
                await body()
        opened = [await client.stream() for _ in range(20)]  # Whatever is made once is made now.
        before = worker.memory_info().rss
        for count in batches(streams):
            opened += await asyncio.gather(*(client.stream() for _ in range(count)))
        grown = worker.memory_info().rss - before
        print(
            f"{len(opened)} open streams: {grown / streams / KIB:.1f} KiB each"
            f" ({before / MIB:.1f} MiB to {(before + grown) / MIB:.1f} MiB)"
        )
        provider.go_on.set()
        ends = await asyncio.gather(*(reader.readuntil(b"[DONE]") for reader, _ in opened))
        assert len(ends) == len(opened)
        for _, writer in opened:
            writer.close()


def main() -> None:
    """Starts what is needed, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--streams", type=int, default=2_000)
    parser.add_argument("--megabytes", type=int, default=300)
    arguments = parser.parse_args()
    if arguments.streams < 1:
        parser.error("--streams is at least 1")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 65_536)), hard))
    with tempfile.TemporaryDirectory() as directory:
        measure_in(Path(directory), arguments.streams, arguments.megabytes * MIB)


if __name__ == "__main__":
    main()
