"""Answers that are neither JSON nor a stream of events: passed down in pieces, recorded before their end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Any

import httpx
import psutil
import pytest
from support import loopback
from support.body_provider import Answer, BodyProvider, Request, body_provider, plain
from support.journals import end_of, ends_of
from support.programs import Gateway
from support.workers import worker_facts

from gateway.dispatch.uploads import HEAD_BYTES

MIB = 1024 * 1024
NOISE = bytes((index * 7919) >> 3 & 255 for index in range(65_536))
CONTENT = "/api/providers/openai/v1/files/file-1/content"
SPEECH = "/api/providers/openai/v1/audio/speech"


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """This test's custom id, and its key."""
    return "".join(char if char.isalnum() else "-" for char in request.node.name)


@asynccontextmanager
async def calling(
    gateway: Gateway, name: str, answer: Answer
) -> AsyncIterator[tuple[httpx.AsyncClient, BodyProvider]]:
    async with body_provider(answer) as provider:
        setting = await asyncio.to_thread(gateway.setting, provider.url)
        await asyncio.to_thread(gateway.key, name, setting)
        headers = {"authorization": f"Bearer {name}", "x-custom-event-id": name}
        async with loopback.AsyncClient(
            base_url=gateway.proxy_url, headers=headers, timeout=60
        ) as client:
            yield client, provider


def answering(content: bytes) -> Answer:
    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        await request.read()
        writer.write(content)

    return answer


def head(length: int | None, content_type: bytes = b"audio/mpeg", *lines: bytes) -> bytes:
    framing = b"transfer-encoding: chunked" if length is None else b"content-length: %d" % length
    more = b"".join(line + b"\r\n" for line in lines)
    return b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\n%b%b\r\n\r\n" % (content_type, more, framing)


def chunk(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(body), body)


@pytest.mark.parametrize("has_length", [True, False])
@pytest.mark.parametrize("size", [10, 300_000, 3 * MIB])
async def test_sound_comes_down_byte_for_byte_and_is_on_record_when_it_is_there(
    gateway, name, has_length, size
):
    """Its length where the provider stated it; whole, or head and hash, in its event."""
    body = (NOISE * (size // len(NOISE) + 1))[:size]
    content = head(size) + body if has_length else head(None) + chunk(body) + b"0\r\n\r\n"
    async with calling(gateway, name, answering(content)) as (client, _):
        answer = await client.post(SPEECH, json={"model": "tts-1", "input": "x"})
        [end] = ends_of(gateway, name)

    assert (answer.status_code, answer.content == body) == (200, True)
    assert answer.headers.get("content-length") == (str(size) if has_length else None)
    assert (end.outcome, end.response_content_type) == ("answered", "audio/mpeg")
    assert end.response.length_bytes == size
    if size <= MIB:
        assert (end.response.content, end.response.sha256) == (body, None)
    else:
        assert end.response.content == body[:HEAD_BYTES]
        assert end.response.sha256 == sha256(body).digest()


@pytest.mark.parametrize("has_length", [True, False])
async def test_the_beginning_is_there_before_the_end_is(gateway, name, has_length):
    """Every piece goes on as it comes."""
    has_begun = asyncio.Event()
    first, rest = NOISE, NOISE * 2

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        await request.read()
        writer.write(head(len(first + rest)) + first if has_length else head(None) + chunk(first))
        await asyncio.wait_for(has_begun.wait(), 60)
        writer.write(rest if has_length else chunk(rest) + b"0\r\n\r\n")

    got = b""
    async with (
        calling(gateway, name, answer) as (client, _),
        client.stream("POST", SPEECH, json={"model": "tts-1"}) as streamed,
    ):
        async for piece in streamed.aiter_raw():
            got += piece
            if len(got) >= len(first):
                has_begun.set()

    assert got == first + rest


@pytest.mark.parametrize("has_length", [True, False])
async def test_an_answer_that_breaks_is_never_a_clean_end(gateway, name, has_length):
    """The client's connection breaks as the provider's did, and the record says so."""

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        await request.read()
        writer.write(head(9 * len(NOISE)) + NOISE if has_length else head(None) + chunk(NOISE))
        await writer.drain()
        raise ConnectionError

    async with calling(gateway, name, answer) as (client, _):
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post(SPEECH, json={"model": "tts-1"})

    end = end_of(gateway, name)
    assert (end.outcome, end.error, end.response.length_bytes) == (
        "upstream_failed",
        "response_cut",
        len(NOISE),
    )


async def test_a_client_that_leaves_ends_the_download(gateway, name):
    """Nothing in it is billed by, so nobody reads the rest."""

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        await request.read()
        writer.write(head(None))
        while not writer.is_closing():
            writer.write(chunk(NOISE))
            await writer.drain()
            await asyncio.sleep(0.005)

    async with calling(gateway, name, answer) as (client, provider):
        async with client.stream("POST", SPEECH, json={"model": "tts-1"}) as streamed:
            async for _ in streamed.aiter_raw():
                break
        async with asyncio.timeout(60):
            await provider.has_ended.wait()

    end = await asyncio.to_thread(end_of, gateway, name)
    assert (end.outcome, end.status) == ("client_left", 200)


async def test_a_client_that_takes_nothing_stops_the_provider(gateway, name):
    """Back-pressure, and no more memory than a few buffers."""
    total = 64 * MIB
    sent = 0
    stalled = asyncio.Event()

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await request.read()
        writer.write(head(total, b"application/octet-stream"))
        while sent < total:
            writer.write(NOISE)
            sent += len(NOISE)
            try:
                await asyncio.wait_for(writer.drain(), 0.7)
            except TimeoutError:
                stalled.set()
                await writer.drain()

    hashed = sha256()
    async with calling(gateway, name, answer) as (client, _):
        [facts] = worker_facts(gateway)
        worker = psutil.Process(facts.pid)
        before = worker.memory_info().rss
        async with client.stream("GET", CONTENT) as streamed, asyncio.timeout(90):
            await stalled.wait()
            grown = worker.memory_info().rss - before
            async for piece in streamed.aiter_raw():
                hashed.update(piece)

    assert hashed.digest() == sha256(NOISE * (total // len(NOISE))).digest()
    assert grown < 8 * MIB
    assert end_of(gateway, name).response.length_bytes == total


async def test_the_content_of_a_file_comes_in_pieces_whatever_it_is(gateway, name):
    """JSON too: there is no usage in it to be read."""
    has_begun = asyncio.Event()

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        await request.read()
        writer.write(head(None, b"application/json") + chunk(b'{"usage":{"prompt_tokens":5},'))
        await asyncio.wait_for(has_begun.wait(), 60)
        writer.write(chunk(b'"a":1}') + b"0\r\n\r\n")

    async with (
        calling(gateway, name, answer) as (client, _),
        client.stream("GET", CONTENT) as streamed,
    ):
        async for _ in streamed.aiter_raw():
            has_begun.set()

    end = end_of(gateway, name)
    assert (end.outcome, end.usage_document) == ("answered", None)


@pytest.mark.parametrize(
    ("method", "content", "status", "kept"),
    [
        (
            "GET",
            head(
                100_000,
                b"application/octet-stream",
                b'etag: "a"',
                b"content-range: bytes 5-100004/9999999",
            ).replace(b"200 OK", b"206 Partial Content")
            + b"x" * 100_000,
            206,
            {"etag": '"a"', "content-range": "bytes 5-100004/9999999", "content-length": "100000"},
        ),
        ("GET", b'HTTP/1.1 304 Not Modified\r\netag: "a"\r\n\r\n', 304, {"etag": '"a"'}),
        ("DELETE", b"HTTP/1.1 204 No Content\r\nx-a: b\r\n\r\n", 204, {"x-a": "b"}),
        (
            "HEAD",
            head(5_000_000, b"application/octet-stream", b'etag: "a"'),
            200,
            {"etag": '"a"', "content-length": "5000000"},
        ),
        ("GET", plain(b"no\x00", b"application/octet-stream", b"404 Not Found"), 404, {}),
    ],
)
async def test_answers_with_less_than_a_body_keep_what_they_say(
    gateway, name, method, content, status, kept
):
    """Ranges, validators, and lengths of what is not sent."""
    async with calling(gateway, name, answering(content)) as (client, _):
        answer: Any = await client.request(method, CONTENT, headers={"range": "bytes=5-100004"})

    assert answer.status_code == status
    assert kept.items() <= dict(answer.headers).items()
    assert len(answer.content) == (100_000 if status == 206 else 3 if status == 404 else 0)
    [end] = ends_of(gateway, name)
    assert (end.outcome, end.status) == ("answered", status)
