"""What a client that has left no longer costs, and how its exchange is recorded."""

import asyncio
import json
from collections.abc import Iterator

import pytest
from support import loopback
from support.body_provider import Request, body_provider, plain
from support.journals import end_of
from support.programs import Gateway
from support.stores import NatsServer, PostgresDatabase

ASK = b'{"model":"m","messages":[]}'
ASK_STREAM = b'{"model":"m","messages":[],"stream":true}'
ANSWER = b'{"id":"x","model":"m","usage":{"prompt_tokens":3,"completion_tokens":4}}'
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)


@pytest.fixture(scope="module")
def cancelling(
    tmp_path_factory: pytest.TempPathFactory, bus: NatsServer, module_postgres: PostgresDatabase
) -> Iterator[Gateway]:
    """A gateway that stops a provider for whose answer nobody waits."""
    program = Gateway(
        tmp_path_factory.mktemp("cancelling"),
        {"NATS_URL": bus.url, "POSTGRES_URL": module_postgres.url, "CLIENT_GONE": "cancel"},
    )
    program.start_ready()
    yield program
    program.kill()


def made_route(gateway: Gateway, name: str, url: str, **step: object) -> None:
    """A key of this name with one setting, and a route of one step, in force."""
    found = gateway.key(name, gateway.setting(url))
    answer = loopback.post(
        f"{gateway.admin_url}/api/routes",
        json={
            "name": name,
            "path": f"/{name}",
            "keyIds": [found["keyId"]],
            "steps": [{"provider": "openai", "model": "m", **step}],
            "cacheConfig": {"enabled": False},
        },
    )
    assert answer.status_code == 200, answer.text
    url = f"{gateway.proxy_url}/api/routes/{name}"
    while loopback.post(url, content=b"[", headers={"x-api-key": name}).status_code == 404:
        pass


async def asked(gateway: Gateway, name: str, path: str, body: bytes) -> asyncio.StreamWriter:
    """A request that has been sent whole; the way to abandon it."""
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.proxy_port)
    writer.write(
        b"POST %b HTTP/1.1\r\nhost: x\r\nx-api-key: %b\r\nx-custom-event-id: %b\r\n"
        b"content-length: %d\r\n\r\n%b"
        % (path.encode(), name.encode(), name.encode(), len(body), body)
    )
    return writer


async def test_nobody_is_asked_again_for_a_client_that_has_left(gateway: Gateway):
    """Neither another attempt at the step nor the next step: nobody would read the answer."""

    async def busy(request: Request, writer: asyncio.StreamWriter) -> None:
        await request.read()
        writer.write(plain(b"{}", status=b"503 Service Unavailable"))

    async with body_provider(busy) as provider:
        await asyncio.to_thread(
            made_route, gateway, "left", provider.url, retries=5, retryInterval="300ms"
        )
        writer = await asked(gateway, "left", "/api/routes/left", b"{}")
        async with asyncio.timeout(60):
            await provider.was_asked.wait()
        writer.transport.abort()
        end = await asyncio.to_thread(end_of, gateway, "left")

    assert end.outcome == "client_left"
    assert provider.asked <= 2
    assert [one.status for one in end.attempts] == [503] * provider.asked


async def test_a_client_that_leaves_while_it_waits_is_on_record_and_billed(gateway: Gateway):
    """What is not a stream too: its provider is heard out, and what it reports is in the event."""
    may_answer = asyncio.Event()

    async def slow(request: Request, writer: asyncio.StreamWriter) -> None:
        await request.read()
        await may_answer.wait()
        writer.write(plain(ANSWER))

    async with body_provider(slow) as provider:
        setting = await asyncio.to_thread(gateway.setting, provider.url)
        await asyncio.to_thread(gateway.key, "impatient", setting)
        await asyncio.to_thread(gateway.key, "patient", setting)
        writer = await asked(gateway, "impatient", "/v1/chat/completions", ASK)
        async with asyncio.timeout(60):
            await provider.was_asked.wait()
        writer.transport.abort()
        # An answer to somebody else: by then the worker has seen the other one leave.
        await asyncio.to_thread(loopback.get, f"{gateway.proxy_url}/health")
        may_answer.set()
        end = await asyncio.to_thread(end_of, gateway, "impatient")

    assert (end.outcome, end.status, end.error) == ("client_left", 0, "client_left")
    assert (end.attempts[0].status, end.attempts[0].error) == (200, None)
    assert json.loads(end.response.content)["usage"]["prompt_tokens"] == 3


@pytest.mark.parametrize("begins", [b"", STREAM_HEAD], ids=["before-the-head", "before-any-event"])
@pytest.mark.parametrize("body", [ASK, ASK_STREAM], ids=["whole", "stream"])
async def test_a_provider_is_stopped_when_nobody_waits_for_it(
    cancelling: Gateway, body: bytes, begins: bytes
):
    """With CLIENT_GONE=cancel its connection is closed at once, and its cost is unknown."""
    name = f"stopped-{len(body)}-{len(begins)}"

    async def silent(request: Request, writer: asyncio.StreamWriter) -> None:
        await request.read()
        writer.write(begins)

    async with body_provider(silent) as provider:
        setting = await asyncio.to_thread(cancelling.setting, provider.url)
        await asyncio.to_thread(cancelling.key, name, setting)
        writer = await asked(cancelling, name, "/v1/chat/completions", body)
        async with asyncio.timeout(60):
            await provider.was_asked.wait()
            writer.transport.abort()
            await provider.has_ended.wait()
        end = await asyncio.to_thread(end_of, cancelling, name)

    assert (end.outcome, end.error) == ("client_left", "client_left")
    assert [one.error for one in end.attempts] == ["client_left"]
