"""Hostile requests and answers against a running gateway; every admission is completed once."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from support import loopback
from support.journals import ends_of
from support.programs import Gateway
from support.stores import NatsServer, PostgresDatabase

BODY = b'{"model":"m","messages":[]}'
STREAM_BODY = b'{"model":"m","stream":true,"messages":[]}'
ANSWER = b'{"id":"a","model":"m","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}'


def answered(body: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % len(body) + body


class Upstream:
    """A provider that answers with fixed bytes and remembers what it was sent."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.heads: list[bytes] = []
        self.url = ""
        self.was_asked = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                self.was_asked.set()
                length = next(
                    int(line[15:])
                    for line in head.split(b"\r\n")
                    if line.lower().startswith(b"content-length:")
                )
                await reader.readexactly(length)
                writer.write(self.answer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def upstream(answer: bytes) -> AsyncIterator[Upstream]:
    provider = Upstream(answer)
    server = await asyncio.start_server(provider.serve, "127.0.0.1", 0)
    provider.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield provider
    finally:
        server.close()


def request(
    name: str, key: str, body: bytes = BODY, head: bytes = b"", target: bytes = b""
) -> bytes:
    return (
        b"POST /v1/chat/completions%b HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %b\r\n"
        b"x-custom-event-id: %b\r\n%b\r\n%b"
        % (
            target,
            key.encode(),
            name.encode(),
            head or b"content-length: %d\r\n" % len(body),
            body,
        )
    )


async def tell(gateway: Gateway, content: bytes) -> bytes:
    """What comes back for raw bytes, until its end or the end of a body with a length."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.proxy_port)
    try:
        writer.write(content)
        return await answer_from(reader)
    finally:
        writer.close()


async def answer_from(reader: asyncio.StreamReader) -> bytes:
    """A head, and its body when it has a length."""
    async with asyncio.timeout(60):
        head = await reader.readuntil(b"\r\n\r\n")
        lengths = [
            int(line[15:])
            for line in head.lower().split(b"\r\n")
            if line.startswith(b"content-length:")
        ]
        return head + (await reader.readexactly(lengths[0]) if lengths else b"")


def status_and_code(answer: bytes) -> tuple[int, str]:
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ", 2)[1]), json.loads(body)["error"]["code"]


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """This test's custom id, and its key."""
    return "".join(char if char.isalnum() else "-" for char in request.node.name)


@asynccontextmanager
async def provider_for(gateway: Gateway, key: str, answer: bytes) -> AsyncIterator[Upstream]:
    async with upstream(answer) as provider:
        await asyncio.to_thread(lambda: gateway.key(key, gateway.setting(provider.url)))
        yield provider


async def test_no_credential_of_the_client_reaches_the_provider(gateway, name):
    """Not from any header that may carry one, nor from the query."""
    async with provider_for(gateway, name, answered(ANSWER)) as provider:
        head = b"".join(
            b"%b: %b\r\n" % (header, name.encode())
            for header in (b"x-api-key", b"api-key", b"x-goog-api-key", b"cookie")
        )
        head += b"proxy-authorization: Basic %b\r\ncontent-length: %d\r\n" % (
            name.encode(),
            len(BODY),
        )
        target = b"?api_key=%b&a=1" % name.encode()
        answer = await tell(gateway, request("x", name, head=head, target=target))

    assert answer.startswith(b"HTTP/1.1 200")
    assert len(provider.heads) == 1
    assert name.encode() not in provider.heads[0]
    assert provider.heads[0].startswith(b"POST /v1/chat/completions?a=1 HTTP/1.1\r\n")
    assert b"sk-upstream" not in answer


@pytest.mark.parametrize(
    ("head", "body", "status", "code"),
    [
        (b"content-length: 27\r\nx-request-timeout: nan\r\n", BODY, 400, "bad_request"),
        (b"transfer-encoding: chunked\r\n", b"zz\r\n" + BODY, 400, "incomplete_body"),
        (
            b"content-length: 50029\r\n",
            b'{"model":"m","messages":' + b"[" * 50005,
            400,
            "invalid_json",
        ),
        (b"content-length: 99\r\nx-request-timeout: 200ms\r\n", BODY, 408, "request_timeout"),
    ],
)
async def test_requests_that_cannot_be_read_are_the_client_s_fault(
    gateway, name, head, body, status, code
):
    """An error object and a status below 500; nothing is admitted."""
    async with provider_for(gateway, name, answered(ANSWER)) as provider:
        answer = await tell(gateway, request(name, name, body, head))

    assert status_and_code(answer) == (status, code)
    assert provider.heads == []
    assert {end.outcome for end in ends_of(gateway, name)} <= {"refused"}


@pytest.mark.parametrize(
    "usage",
    [b'{"prompt_tokens":1,"x":"%b"}' % (b"y" * 7_000_000), b"[" * 50_000 + b"]" * 50_000],
)
async def test_an_answer_with_an_absurd_usage_block_is_still_recorded(gateway, name, usage):
    """The answer goes down as it is, and its completion fits the journal."""
    content = b'{"id":"a","usage":%b}' % usage
    async with provider_for(gateway, name, answered(content)):
        answer = await tell(gateway, request(name, name))

    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(content)
    [end] = ends_of(gateway, name)
    assert (end.outcome, end.status, end.usage_document) == ("answered", 200, None)
    assert end.response.length_bytes == len(content)


def counts_with(gateway: Gateway, counter: str) -> dict[str, int]:
    """The worker's counters, once this one has moved; a worker tells them every second."""
    state = gateway.data_dir / "run" / "gateway-worker-1.state.json"

    def counts() -> dict[str, int]:
        told: dict[str, int] = json.loads(state.read_bytes())["counts"]
        return told

    gateway.wait_until(lambda: counts()[counter] > 0)
    return counts()


@pytest.fixture
def small_gateway(
    tmp_path: Path, bus: NatsServer, module_postgres: PostgresDatabase
) -> Iterator[Gateway]:
    """A gateway whose journal takes an admission, but no event as long as an answer."""
    program = Gateway(
        tmp_path,
        {
            "NATS_URL": bus.url,
            "POSTGRES_URL": module_postgres.url,
            "JOURNAL_BYTES_MAX": str(1024 * 1024),
        },
    )
    program.start_ready()
    yield program
    program.kill()


async def test_an_answer_that_cannot_be_recorded_is_not_sent(small_gateway, name):
    """503 instead: the journal had room for the admission, and none for the completion."""
    content = b'{"id":"a","x":"%b"}' % (b"y" * 1_048_500)
    async with provider_for(small_gateway, name, answered(content)) as provider:
        answer = await tell(small_gateway, request(name, name))

    assert len(provider.heads) == 1
    assert status_and_code(answer) == (503, "metering_unavailable")
    counts = await asyncio.to_thread(counts_with, small_gateway, "broken_for_journal")
    assert counts["answered"] == 0


async def test_an_admin_body_without_end_is_an_error_of_the_admin_api(gateway):
    """Nested deeper than a reader can follow: 400, in the shape of every other error."""
    async with loopback.AsyncClient(base_url=gateway.admin_url) as client:
        answer = await client.put("/api/key-management/keys", content=b'{"a":' + b"[" * 50_000)

    assert answer.status_code == 400
    assert set(answer.json()) == {"type", "title", "status", "detail", "instance"}


async def test_a_stop_answers_those_who_have_nothing_yet(
    tmp_path: Path, bus: NatsServer, module_postgres: PostgresDatabase, name
):
    """503 with an error object, whether the request or its answer was still on its way."""
    gateway = Gateway(
        tmp_path,
        {"NATS_URL": bus.url, "POSTGRES_URL": module_postgres.url, "DRAIN_S": "0.2"},
    )
    gateway.start_ready()
    try:
        async with provider_for(gateway, name, b"") as provider:
            waiting = asyncio.create_task(tell(gateway, request(name, name)))
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.proxy_port)
            head = b"expect: 100-continue\r\ncontent-length: %d\r\n" % len(BODY)
            writer.write(request(name, name, b"", head))
            # It has the request, and wants the rest of it.
            assert await answer_from(reader) == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(BODY[:-4])
            async with asyncio.timeout(60):
                await provider.was_asked.wait()
            stopping = asyncio.create_task(asyncio.to_thread(gateway.stop))
            answers = [await waiting, await answer_from(reader)]
            # The gateway waits some seconds for who still sends what was refused.
            writer.close()
            status = await stopping
    finally:
        gateway.kill()

    assert status == 0
    assert [status_and_code(answer) for answer in answers] == [(503, "shutting_down")] * 2
    assert {(end.outcome, end.status) for end in ends_of(gateway, name)} == {
        ("shutting_down", 503),
        ("refused", 503),
    }
