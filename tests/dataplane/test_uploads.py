"""Request bodies that are no JSON: streamed up byte for byte, or spooled until their model is known."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from support import loopback
from support.body_provider import Answer, BodyProvider, Request, body_provider, plain
from support.journals import end_of, ends_of, journal
from support.programs import Gateway
from support.stores import NatsServer, PostgresDatabase
from support.workers import worker_facts

from contracts.exchange import RequestAdmitted
from gateway.dispatch.spool import SpoolDirectory
from gateway.dispatch.uploads import HEAD_BYTES, Kept
from gateway.values import Refusal

MIB = 1024 * 1024
BODY_MAX = 24 * MIB
SPOOL_MAX = 12 * MIB
FORM_TYPE = "multipart/form-data; boundary=xYz"
NOISE = bytes((index * 7919) >> 3 & 255 for index in range(65_536))


def field(name: str, value: str) -> bytes:
    return f'--xYz\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()


def form(*fields: bytes, size: int = 3 * MIB, first: bool = True) -> bytes:
    """A file with these fields behind it, or before it."""
    head = b'--xYz\r\nContent-Disposition: form-data; name="file"; filename="a.mp3"\r\n\r\n'
    file = head + (NOISE * (size // len(NOISE) + 1))[:size] + b"\r\n"
    rest = b"".join(fields)
    return b"preamble\r\n" + (file + rest if first else rest + file) + b"--xYz--\r\nepilogue"


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, bus: NatsServer, module_postgres: PostgresDatabase
) -> Iterator[Gateway]:
    """A gateway with one data worker and low limits."""
    program = Gateway(
        tmp_path_factory.mktemp("gateway"),
        {
            "NATS_URL": bus.url,
            "POSTGRES_URL": module_postgres.url,
            "MULTIPART_BODY_BYTES_MAX": str(BODY_MAX),
            "SPOOL_BYTES_MAX": str(SPOOL_MAX),
        },
    )
    program.start_ready()
    yield program
    program.kill()


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """This test's custom id, and its key."""
    return "".join(char if char.isalnum() else "-" for char in request.node.name)


class Caller:
    """A client with a key of its own, and what the provider was sent."""

    def __init__(self, http: httpx.AsyncClient, provider: BodyProvider, port: int) -> None:
        self.http = http
        self.provider = provider
        self.port = port
        self.heard: list[tuple[str, dict[str, str], int, bytes]] = []

    async def digest(self, request: Request, writer: asyncio.StreamWriter) -> None:
        """Remembers, and answers."""
        length, digest = await request.digest()
        self.heard.append((request.target, dict(request.headers.items()), length, digest))
        writer.write(plain(b'{"id":"file-1"}'))


@asynccontextmanager
async def calling(
    gateway: Gateway, name: str, answer: Answer | None = None, **key: Any
) -> AsyncIterator[Caller]:
    async with body_provider(answer or Caller.digest) as provider:  # type: ignore[arg-type]
        setting = await asyncio.to_thread(gateway.setting, provider.url)
        await asyncio.to_thread(gateway.key, name, setting, **key)
        headers = {"authorization": f"Bearer {name}", "x-custom-event-id": name}
        async with loopback.AsyncClient(
            base_url=gateway.proxy_url, headers=headers, timeout=60
        ) as client:
            caller = Caller(client, provider, gateway.proxy_port)
            if answer is None:
                provider.answer = caller.digest
            yield caller


async def in_pieces(body: bytes, size: int = 50_000) -> AsyncIterator[bytes]:
    for place in range(0, len(body), size):
        yield body[place : place + size]


def is_spool_empty(gateway: Gateway) -> bool:
    return not list(Path(gateway.data_dir).glob("spool/*"))


FILES = "/api/providers/openai/v1/files"
TRANSCRIPTIONS = "/api/providers/openai/v1/audio/transcriptions"


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_a_file_arrives_byte_for_byte_and_is_recorded_by_head_and_hash(
    gateway, name, is_chunked
):
    """With Content-Length where the client sent one; nothing of it touches the disk."""
    body = form(field("purpose", "batch"))
    async with calling(gateway, name) as caller:
        answer = await caller.http.post(
            FILES,
            content=in_pieces(body) if is_chunked else body,
            headers={"content-type": FORM_TYPE},
        )

    assert (answer.status_code, answer.content) == (200, b'{"id":"file-1"}')
    [(target, headers, length, digest)] = caller.heard
    assert (target, length, digest) == ("/v1/files", len(body), sha256(body).digest())
    assert headers["content-type"] == FORM_TYPE
    framing = ("Transfer-Encoding", "chunked") if is_chunked else ("Content-Length", str(len(body)))
    assert framing in headers.items()
    end = end_of(gateway, name)
    assert (end.outcome, end.status, end.call.request_bytes) == ("answered", 200, len(body))
    assert end.request.content == body[:HEAD_BYTES]
    assert (end.request.length_bytes, end.request.sha256) == (len(body), sha256(body).digest())
    assert not Path(gateway.data_dir, "spool").exists() or is_spool_empty(gateway)


async def test_a_form_that_nobody_must_check_is_streamed_and_its_model_recorded(gateway, name):
    """The provider has the beginning before the client has the end; the model comes last."""
    body = form(field("model", "whisper-1"), field("user", "u-1"))
    begun = asyncio.Event()

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        hashed = sha256()
        async for piece in request.pieces():
            begun.set()
            hashed.update(piece)
        writer.write(plain(b'{"text":"%b"}' % hashed.hexdigest().encode()))

    async def slow() -> AsyncIterator[bytes]:
        yield body[: 2 * MIB]
        await asyncio.wait_for(begun.wait(), 60)
        yield body[2 * MIB :]

    async with calling(gateway, name, answer) as caller:
        got = await caller.http.post(
            TRANSCRIPTIONS, content=slow(), headers={"content-type": FORM_TYPE}
        )

    assert got.json() == {"text": sha256(body).hexdigest()}
    end = end_of(gateway, name)
    assert (end.call.model_asked, end.caller.user_id) == ("whisper-1", "u-1")
    assert end.attempts[0].model_sent == "whisper-1"
    [admitted] = [
        event
        for event in journal(gateway)
        if isinstance(event, RequestAdmitted) and event.caller.custom_id == name
    ]
    assert admitted.call.model_asked is None


@pytest.mark.parametrize("size", [1_000, 3 * MIB])
@pytest.mark.parametrize("comes_last", [True, False])
async def test_a_model_that_is_not_allowed_never_reaches_the_provider(
    gateway, name, size, comes_last
):
    """Wherever it stands in the form, and if two of them could be meant."""
    async with calling(gateway, name, allowedModels=["whisper-1"]) as caller:
        for fields in (
            [field("model", "other")],
            [field("model", "whisper-1"), field("model", "other")],
            [],
        ):
            body = form(*fields, size=size, first=comes_last)
            answer = await caller.http.post(
                TRANSCRIPTIONS, content=body, headers={"content-type": FORM_TYPE}
            )
            assert (answer.status_code, answer.json()["error"]["code"]) == (
                403,
                "model_not_allowed",
            )
        assert caller.provider.asked == 0
        body = form(field("model", "whisper-1"), size=size, first=comes_last)
        answer = await caller.http.post(
            TRANSCRIPTIONS, content=body, headers={"content-type": FORM_TYPE}
        )

    assert answer.status_code == 200
    assert [one[2:] for one in caller.heard] == [(len(body), sha256(body).digest())]
    assert is_spool_empty(gateway)
    ends = ends_of(gateway, name)
    assert sorted(end.outcome for end in ends) == ["answered"] + ["refused"] * 3
    [answered] = [end for end in ends if end.outcome == "answered"]
    assert answered.request.length_bytes == len(body)


@pytest.mark.parametrize("size", [1_000, 3 * MIB])
async def test_a_form_may_ask_for_a_model_by_its_provider(gateway, name, size):
    """Under the plain root; only the model is written anew, and the length is true."""
    body = form(field("model", "openai/whisper-1"), field("n", "1"), size=size)
    async with calling(gateway, name) as caller:
        answer = await caller.http.post(
            "/v1/audio/transcriptions", content=body, headers={"content-type": FORM_TYPE}
        )

    assert answer.status_code == 200
    sent = body.replace(b"openai/whisper-1", b"whisper-1")
    [(_, headers, length, digest)] = caller.heard
    assert (length, digest) == (len(sent), sha256(sent).digest())
    assert headers["Content-Length"] == str(len(sent))
    end = end_of(gateway, name)
    assert (end.call.model_asked, end.attempts[0].model_sent) == ("openai/whisper-1", "whisper-1")
    assert end.request.length_bytes == len(body)


@pytest.mark.parametrize("is_chunked", [False, True])
@pytest.mark.parametrize("allowed", [None, ["m"]])
async def test_a_body_over_the_limit_is_refused(gateway, name, is_chunked, allowed):
    """By its head, or when it goes past the limit; the provider never gets a whole one."""
    size = BODY_MAX + MIB

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(size // MIB):
            yield NOISE * 16

    key = {"allowedModels": allowed} if allowed else {}
    async with calling(gateway, name, **key) as caller:
        headers = {"content-type": FORM_TYPE}
        if not is_chunked:
            headers["content-length"] = str(size)
        answer = await caller.http.post(TRANSCRIPTIONS, content=endless(), headers=headers)

    status = 503 if allowed and is_chunked else 413
    assert answer.status_code == status
    assert caller.heard == []
    end = end_of(gateway, name)
    assert (end.outcome, end.status) == ("refused", status)


async def test_bodies_that_wait_for_their_model_have_only_so_much_room(gateway, name):
    """503 past SPOOL_BYTES_MAX, and the room is there again for the next one."""
    async with calling(gateway, name, allowedModels=["m"]) as caller:
        statuses = []
        for size in (SPOOL_MAX + MIB, SPOOL_MAX - MIB, SPOOL_MAX - MIB):
            body = form(field("model", "m"), size=size)
            answer = await caller.http.post(
                TRANSCRIPTIONS, content=body, headers={"content-type": FORM_TYPE}
            )
            statuses.append(answer.status_code)

    assert statuses == [503, 200, 200]
    [refused] = [end for end in ends_of(gateway, name) if end.status == 503]
    assert refused.error == "spool_full"


async def send(caller: Caller, head: bytes, *parts: bytes) -> tuple[Any, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", caller.port)
    key = caller.http.headers["authorization"].encode()
    name = caller.http.headers["x-custom-event-id"].encode()
    writer.write(
        b"POST %b HTTP/1.1\r\nhost: x\r\nauthorization: %b\r\nx-custom-event-id: %b\r\n"
        b"content-type: application/octet-stream\r\n%b\r\n" % (FILES.encode(), key, name, head)
    )
    for part in parts:
        writer.write(part)
        await writer.drain()
    return reader, writer


@pytest.mark.parametrize("status", [b"413 Content Too Large", b"401 Unauthorized"])
async def test_an_answer_before_the_end_of_the_body_is_relayed(gateway, name, status):
    """The provider said no after the head; the client need not send the rest to learn it."""

    async def no(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(plain(b'{"error":{}}', status=status))
        await request.read()

    async with calling(gateway, name, no) as caller:
        reader, writer = await send(caller, b"content-length: 9000000\r\n", NOISE)
        async with asyncio.timeout(60):
            line = await reader.readline()
        writer.close()
        await writer.wait_closed()

    assert line.split()[1] == status.split()[0]
    end = end_of(gateway, name)
    assert (end.outcome, end.status) == ("answered", int(status[:3]))


async def test_a_client_that_leaves_in_the_middle_ends_the_upload(gateway, name):
    """The provider does not wait for the rest, nor take half for the whole."""
    async with calling(gateway, name) as caller:
        _, writer = await send(caller, b"content-length: 9000000\r\n", NOISE * 8)
        async with asyncio.timeout(60):
            await caller.provider.was_asked.wait()
        writer.transport.abort()
        async with asyncio.timeout(60):
            await caller.provider.was_cut.wait()

    end = await asyncio.to_thread(end_of, gateway, name)
    assert (end.outcome, end.attempts[0].error) == ("client_left", "client_left")
    assert 0 < end.request.length_bytes <= len(NOISE) * 8
    assert caller.heard == []


async def test_a_client_that_stalls_is_cut_off_in_time(gateway, name):
    """x-request-timeout holds for the body as well."""
    async with calling(gateway, name) as caller:
        reader, writer = await send(
            caller, b"content-length: 9000000\r\nx-request-timeout: 2s\r\n", NOISE
        )
        async with asyncio.timeout(60):
            line = await reader.readline()
            await caller.provider.was_cut.wait()
        writer.close()
        await writer.wait_closed()

    assert line.split()[1] == b"504"
    assert end_of(gateway, name).outcome == "timed_out"


async def test_a_provider_that_takes_nothing_stops_the_client(gateway, name):
    """Back-pressure, and no more memory than a few buffers."""
    go_on = asyncio.Event()

    async def wait(request: Request, writer: asyncio.StreamWriter) -> None:
        await go_on.wait()
        await request.digest()
        writer.write(plain(b"{}"))

    async with calling(gateway, name, wait) as caller:
        [facts] = worker_facts(gateway)
        worker = psutil.Process(facts.pid)
        before = worker.memory_info().rss
        total = BODY_MAX - MIB
        reader, writer = await send(caller, b"content-length: %d\r\n" % total)
        sent = 0
        try:
            while sent < total:
                writer.write(NOISE)
                sent += len(NOISE)
                await asyncio.wait_for(writer.drain(), 0.7)
        except TimeoutError:
            pass
        stalled_at, grown = sent, worker.memory_info().rss - before
        go_on.set()
        while sent < total:
            piece = NOISE[: min(len(NOISE), total - sent)]
            writer.write(piece)
            sent += len(piece)
            await writer.drain()
        async with asyncio.timeout(60):
            line = await reader.readline()
        writer.close()
        await writer.wait_closed()

    assert line == b"HTTP/1.1 200 OK\r\n"
    assert stalled_at < total
    assert grown < 8 * MIB


@pytest.mark.parametrize("sizes", [[], [10], [40, 60], [40, 61], [100_000], [70_000, 50_000, 1]])
def test_what_is_kept_of_a_body_is_whole_or_its_head(sizes):
    """Whole up to the limit; past it no more than the head, whatever the pieces."""
    kept = Kept(100)
    pieces = [NOISE[:1] * size for size in sizes]
    for piece in pieces:
        kept.add(piece)
    whole = b"".join(pieces)

    body = kept.body()

    assert body.length_bytes == len(whole)
    if len(whole) <= 100:
        assert (body.content, body.sha256) == (whole, None)
    else:
        assert body.content == whole[:100]
        assert body.sha256 == sha256(whole).digest()
    assert kept.body(keeps_content=False).sha256 == sha256(whole).digest()


async def test_a_spool_leaves_no_name_and_gives_its_room_back(tmp_path):
    """It can be read any number of times, in parts too."""
    directory = SpoolDirectory(tmp_path / "spool", 1_000_000)
    spool = await directory.open()
    assert list((tmp_path / "spool").iterdir()) == []
    for _ in range(3):
        await spool.add(NOISE)
    await spool.flush()

    for _ in range(2):
        assert b"".join([piece async for piece in spool.pieces()]) == NOISE * 3
    assert b"".join([piece async for piece in spool.pieces(5, 65_540)]) == (NOISE * 3)[5:65_540]
    with pytest.raises(Refusal):
        await spool.add(b"x" * 900_000)
    spool.close()
    spool.close()
    assert directory.bytes_kept == 0


async def test_a_spool_that_cannot_be_written_is_a_refusal(tmp_path):
    """Not a crash: the disk is not the client's fault."""
    path = tmp_path / "spool"
    path.write_text("a file")
    with pytest.raises(Refusal) as refused:
        await SpoolDirectory(path, 1_000).open()

    assert refused.value.status == 503
