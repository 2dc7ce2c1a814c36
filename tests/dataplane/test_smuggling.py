"""Requests whose framing could be read in two ways are refused."""

import asyncio
import itertools
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from support.body_provider import BodyProvider, Request, body_provider, plain
from support.programs import Gateway

KEYS = (f"sk-smuggler-{number}" for number in itertools.count())
BODY = b'{"model":"m","messages":[]}'
PATH = b"/api/providers/openai/v1/chat/completions"
BEHIND = b"POST /api/providers/openai/v1/embeddings HTTP/1.1\r\nhost: x\r\n\r\n"


def head(*lines: bytes, target: bytes = PATH, method: bytes = b"POST") -> bytes:
    first = b"%b %b HTTP/1.1\r\nhost: x\r\nauthorization: Bearer KEY\r\n" % (method, target)
    return first + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def chunked(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


LENGTH = b"content-length: %d" % len(BODY)

REFUSED = {
    "two lengths": head(LENGTH, b"content-length: 5") + BODY,
    "two lengths in one": head(b"content-length: 27, 5") + BODY,
    "length with a sign": head(b"content-length: +27") + BODY,
    "length beyond all numbers": head(b"content-length: 99999999999999999999999") + BODY,
    "another coding": head(b"transfer-encoding: gzip, chunked") + chunked(BODY),
    "coding twice": head(b"transfer-encoding: chunked", b"transfer-encoding: chunked")
    + chunked(BODY),
    "coding that is none": head(b"transfer-encoding: xchunked") + chunked(BODY),
    "chunked is not last": head(b"transfer-encoding: chunked, identity") + chunked(BODY),
    "coding with a tab": head(b"transfer-encoding: \x0bchunked") + chunked(BODY),
    "space before the colon": head(b"transfer-encoding : chunked") + chunked(BODY),
    "coding in HTTP/1.0": head(b"transfer-encoding: chunked").replace(b"1.1", b"1.0")
    + chunked(BODY),
    "chunk size is no number": head(b"transfer-encoding: chunked") + b"zz\r\n" + BODY,
    "chunk size is negative": head(b"transfer-encoding: chunked") + b"-1\r\n" + BODY,
    "chunk size overflows": head(b"transfer-encoding: chunked") + b"fffffffffffffffff\r\n" + BODY,
    "chunk is longer than it says": head(b"transfer-encoding: chunked")
    + b"3\r\n%b\r\n0\r\n\r\n" % BODY,
    "chunks with bare line feeds": head(b"transfer-encoding: chunked") + b"1b\n%b\n0\n\n" % BODY,
    "folded line": head(LENGTH, b"x-a: b\r\n c") + BODY,
    "NUL in a value": head(LENGTH, b"x-a: b\0c") + BODY,
    "CR in a value": head(LENGTH, b"x-a: b\rc") + BODY,
    "space in a name": head(LENGTH, b"x a: b") + BODY,
    "no name": head(LENGTH, b": b") + BODY,
    "two hosts": head(LENGTH, b"host: y") + BODY,
    "a head of 70 KB": head(LENGTH, b"x-a: " + b"a" * 70_000) + BODY,
    "a head of 200 KB": head(LENGTH, b"x-a: " + b"a" * 200_000) + BODY,
    "300 headers": head(LENGTH, *[b"x-a: b"] * 300) + BODY,
    "another version": head(LENGTH).replace(b"HTTP/1.1", b"HTTP/1.2") + BODY,
    "CONNECT": head(target=b"other:443", method=b"CONNECT"),
    "CONNECT to a path": head(target=PATH, method=b"CONNECT"),
    "authority as target": head(LENGTH, target=b"other:80") + BODY,
    "dots in a wildcard": head(LENGTH, target=b"/api/providers/openai/v1/new/../models") + BODY,
    "escaped dots": head(LENGTH, target=b"/api/providers/openai/v1/new/%2e%2e/models") + BODY,
    "escaped slash": head(LENGTH, target=b"/api/providers/openai/v1/new/a%2f..%2fb") + BODY,
}


async def told(gateway: Gateway, key: str, content: bytes) -> list[bytes]:
    """The status of every answer that comes, until the connection ends or falls silent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.proxy_port)
    got = b""
    try:
        writer.write(content.replace(b"KEY", key.encode()))
        while piece := await asyncio.wait_for(reader.read(65_536), 60 if not got else 0.3):
            got += piece
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.close()
    return re.findall(rb"HTTP/1\.1 (\d{3}) ", got)


@asynccontextmanager
async def provider_for(gateway: Gateway) -> AsyncIterator[tuple[str, BodyProvider, list[Request]]]:
    heard: list[Request] = []

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        heard.append(request)
        request.body = await request.read()  # type: ignore[attr-defined]
        writer.write(plain(b"{}"))

    async with body_provider(answer) as provider:
        setting = await asyncio.to_thread(gateway.setting, provider.url)
        key = next(KEYS)
        await asyncio.to_thread(gateway.key, key, setting)
        yield key, provider, heard


@pytest.fixture(scope="module")
def refusals(gateway: Gateway) -> dict[str, tuple[list[bytes], list[str]]]:
    """What each form was answered, and what of it the provider heard."""

    async def try_all() -> dict[str, tuple[list[bytes], list[str]]]:
        async with provider_for(gateway) as (key, _, heard):

            async def one(name: str, content: bytes) -> tuple[str, list[bytes]]:
                return name, await told(gateway, key, content)

            results = await asyncio.gather(*(one(*item) for item in REFUSED.items()))
            targets = [request.target for request in heard]
            ok = await told(gateway, key, head(LENGTH) + BODY)
            assert ok == [b"200"]
            return {name: (statuses, targets) for name, statuses in results}

    return asyncio.run(try_all())


@pytest.mark.parametrize("form", REFUSED)
def test_what_can_be_read_in_two_ways_is_refused(refusals, form):
    """With a status of the client's fault or the end of the connection, and nobody else hears it."""
    statuses, targets = refusals[form]

    assert statuses in ([], [b"400"], [b"404"], [b"431"], [b"413"])
    assert targets == []


async def test_a_body_that_is_cut_is_never_taken_for_whole(gateway):
    """Neither JSON nor a file."""
    file = b"content-type: application/octet-stream"
    async with provider_for(gateway) as (key, _, heard):
        for target, lines, content in (
            (PATH, [LENGTH], BODY[:-1]),
            (
                b"/api/providers/openai/v1/files",
                [file, b"transfer-encoding: chunked"],
                b"3\r\nabc\r\n",
            ),
            (b"/api/providers/openai/v1/files", [file, b"content-length: 900000"], b"abc"),
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.proxy_port)
            writer.write(head(*lines, target=target).replace(b"KEY", key.encode()) + content)
            await writer.drain()
            writer.write_eof()
            async with asyncio.timeout(60):
                line = await reader.readline()
            writer.close()
            await writer.wait_closed()
            assert line.split()[1:2] in ([], [b"400"])

    assert [request for request in heard if hasattr(request, "body")] == []
