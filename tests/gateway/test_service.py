"""The gateway as its clients meet it: configured over 8001, asked over 8002, events in NATS."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path
from threading import Event

import httpx
import openai
import pytest
from support import loopback
from support.body_provider import BodyProvider, Request, body_provider
from support.events import events
from support.programs import Gateway
from support.servers import free_port
from support.workers import worker_facts

from contracts.exchange import ExchangeCompleted, RequestAdmitted

KEY = "sk-test-0123456789"
PATHS = ["/api/providers/openai/v1/chat/completions", "/v1/chat/completions"]
USAGE = {"x-demo-usage": "prompt=374,completion=44"}


def ask(**changes: object) -> dict[str, object]:
    return {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}], **changes}


def post(gateway: Gateway, path: str = PATHS[1], key: str = KEY, **options: object):
    headers = {"authorization": f"Bearer {key}", **options.pop("headers", {})}
    return loopback.post(f"{gateway.proxy_url}{path}", headers=headers, **options)


STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)
BEGIN = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'
END = (
    b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":374,"completion_tokens":44}}\n\n'
    b"data: [DONE]\n\n"
)


@asynccontextmanager
async def held_stream() -> AsyncIterator[tuple[BodyProvider, asyncio.Event]]:
    """A provider that begins its streams, and ends them when it may."""
    may_end = asyncio.Event()

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        await request.read()
        writer.write(STREAM_HEAD + b"%x\r\n%b\r\n" % (len(BEGIN), BEGIN))
        await may_end.wait()
        writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(END), END))

    async with body_provider(answer) as provider:
        yield provider, may_end


def stream(
    gateway: Gateway, key: str, headers: dict[str, str]
) -> AbstractContextManager[httpx.Response]:
    """The answer to a streaming request, as it comes."""
    return loopback.stream(
        "POST",
        f"{gateway.proxy_url}{PATHS[1]}",
        json=ask(stream=True),
        headers={"authorization": f"Bearer {key}", **headers},
    )


@pytest.fixture(scope="module")
def configured(gateway: Gateway, provider: str) -> Gateway:
    """A gateway with one setting and one key."""
    gateway.key(KEY, gateway.setting(provider), tags=["team-a"])
    return gateway


@pytest.fixture
def named(request: pytest.FixtureRequest) -> dict[str, str]:
    """A header that tells this test's requests from all others."""
    return {"x-custom-event-id": request.node.name}


@pytest.mark.parametrize("path", PATHS)
async def test_an_answer_comes_back_and_both_events_are_in_the_stream(configured, bus, named, path):
    """The provider's bytes go down, the admission and the completion go to NATS."""
    answer = post(
        configured,
        path,
        json=ask(user="u1"),
        headers={"x-metadata": '{"a":1}', **USAGE, **named},
    )

    assert answer.status_code == 200
    assert answer.json()["usage"]["prompt_tokens"] == 374
    admitted, completed = await events(bus, named["x-custom-event-id"])
    assert isinstance(admitted, RequestAdmitted)
    assert isinstance(completed, ExchangeCompleted)
    assert admitted.event_id == completed.event_id
    assert completed.response.content == answer.content
    assert json.loads(completed.request.content)["user"] == "u1"
    assert (completed.status, completed.outcome) == (200, "answered")
    assert completed.caller.custom_id == named["x-custom-event-id"]
    assert completed.caller.user_id == "u1"
    assert completed.caller.tags == ("team-a",)
    assert completed.metadata == '{"a":1}'
    assert completed.call.path == path
    assert completed.attempts[0].status == 200
    assert completed.first_byte_us is not None
    assert answer.headers["x-request-id"].replace("-", "") == completed.event_id.hex()


@pytest.mark.parametrize("asks", [True, False])
def test_a_stream_reports_usage_to_us_and_to_the_client_only_when_it_asked(configured, asks):
    """We ask the provider, and strip the extra chunk for a client that did not."""
    options = {"stream_options": {"include_usage": True}} if asks else {}
    answer = post(configured, json=ask(stream=True, **options), headers=USAGE)

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    chunks = [line for line in answer.text.split("\n") if line.startswith("data: {")]
    assert answer.text.endswith("data: [DONE]\n\n")
    assert any(json.loads(line[6:]).get("usage") for line in chunks) is asks


async def test_the_event_of_a_stripped_stream_holds_the_usage(configured, bus, named):
    """What was stripped for the client is kept for the bill."""
    post(configured, json=ask(stream=True), headers={**USAGE, **named})

    completed = (await events(bus, named["x-custom-event-id"]))[-1]
    assert json.loads(completed.usage_document)["usage"]["completion_tokens"] == 44
    assert b'"usage":{' in completed.response.content.replace(b" ", b"")
    # The client's own words are recorded, not our splice.
    assert b"stream_options" not in completed.request.content


def test_the_openai_client_works_against_the_plain_root(configured):
    """The snippet that `make up` prints."""
    client = openai.OpenAI(api_key=KEY, base_url=f"{configured.proxy_url}/v1")
    with client:
        reply = client.chat.completions.create(**ask())
        stream = client.chat.completions.create(**ask(stream=True))
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)

    assert reply.usage.total_tokens > 0
    assert text


async def test_a_setting_may_forbid_asking_for_usage(configured, provider, bus, named):
    """usageOnStreams=never: the provider gets the client's own bytes, and reports nothing."""
    configured.key("sk-never", configured.setting(provider, usageOnStreams="never"))

    answer = post(configured, key="sk-never", json=ask(stream=True), headers={**USAGE, **named})

    assert answer.text.endswith("data: [DONE]\n\n")
    completed = (await events(bus, named["x-custom-event-id"]))[-1]
    assert completed.usage_document is None
    assert b'"usage":{' not in completed.response.content.replace(b" ", b"")


def test_allowed_paths_name_route_templates(configured, provider):
    """403 where the template is not allowed, 200 where it is."""
    setting = configured.setting(provider)
    configured.key("sk-path", setting, allowedPaths=[{"path": PATHS[0], "method": "POST"}])

    assert post(configured, PATHS[1], key="sk-path", json=ask()).status_code == 403
    assert post(configured, PATHS[0], key="sk-path", json=ask()).status_code == 200


def test_a_stream_that_is_cut_upstream_never_ends_cleanly(configured):
    """The client sees a broken body, not a finished answer."""
    with pytest.raises(httpx.RemoteProtocolError):
        post(configured, json=ask(stream=True), headers={"x-demo-cut": "3"})


def test_provider_errors_come_down_as_they_are(configured):
    """Status, Retry-After and body of the provider's own error."""
    answer = post(
        configured, json=ask(), headers={"x-demo-status": "429", "x-demo-retry-after": "7"}
    )

    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "7"
    assert "error" in answer.json()


async def test_bodies_over_the_event_limit_travel_as_head_and_hash(configured, bus, named):
    """The whole body reaches the provider; the event keeps its head."""
    answer = post(
        configured, json=ask(messages=[{"role": "user", "content": "x" * 20_000}]), headers=named
    )

    assert answer.status_code == 200
    completed = (await events(bus, named["x-custom-event-id"]))[-1]
    assert len(completed.request.content) == 4096
    assert completed.request.length_bytes > 20_000
    assert len(completed.request.sha256) == 32


async def test_a_client_that_leaves_is_billed_for_what_the_provider_bills(configured, bus, named):
    """By default the stream is read to its end, so the usage is known."""

    def read_a_little(key: str) -> None:
        with stream(configured, key, named) as answer:
            next(answer.iter_bytes())
        # An answer to somebody else: by then the worker has seen the other one leave.
        loopback.get(f"{configured.proxy_url}/health")

    async with held_stream() as (provider, may_end):
        setting = await asyncio.to_thread(configured.setting, provider.url)
        await asyncio.to_thread(configured.key, "sk-leaves", setting)
        await asyncio.to_thread(read_a_little, "sk-leaves")
        may_end.set()
        completed = (await events(bus, named["x-custom-event-id"]))[-1]

    assert completed.outcome == "client_left"
    assert json.loads(completed.usage_document)["usage"]["prompt_tokens"] == 374


async def test_a_stop_finishes_streams_under_way_and_ships_the_journal(
    bus, module_postgres, named, tmp_path: Path
):
    """SIGTERM: no stream is cut within DRAIN_S, and nothing stays behind unshipped."""
    gateway = Gateway(
        tmp_path,
        {
            "NATS_URL": bus.url,
            "POSTGRES_URL": module_postgres.url,
            "DRAIN_S": "60",
            "JOURNAL_STOP": "4",
        },
    )
    gateway.start_ready()
    has_begun = Event()

    def whole_stream() -> bytes:
        content = b""
        with stream(gateway, "sk-stop", named) as answer:
            for piece in answer.iter_bytes():
                content += piece
                has_begun.set()
        return content

    async with held_stream() as (provider, may_end):
        setting = await asyncio.to_thread(gateway.setting, provider.url)
        await asyncio.to_thread(gateway.key, "sk-stop", setting)
        streaming = asyncio.create_task(asyncio.to_thread(whole_stream))
        assert await asyncio.to_thread(has_begun.wait, 60)
        stopping = asyncio.create_task(asyncio.to_thread(gateway.stop))
        await asyncio.to_thread(
            gateway.wait_until, lambda: not any(one.is_ready for one in worker_facts(gateway))
        )
        may_end.set()
        assert (await streaming).endswith(b"data: [DONE]\n\n")
        status = await stopping

    assert status == 0
    completed = (await events(bus, named["x-custom-event-id"]))[-1]
    assert completed.outcome == "answered"


def test_a_gateway_that_never_had_its_stores_stops_when_told_to(tmp_path: Path):
    """By themselves: who waits for a database need not be killed."""
    nowhere = f"127.0.0.1:{free_port()}"
    stores = {"NATS_URL": f"nats://{nowhere}", "POSTGRES_URL": f"postgresql://a:b@{nowhere}/c"}
    gateway = Gateway(tmp_path, stores)
    gateway.start()
    gateway.wait_until(lambda: "configuration.unavailable" in gateway.log.read_text())

    assert gateway.stop() == 0
    lines = gateway.log.read_text().splitlines()
    [end] = [line for line in lines if "child.stopped name=gateway-worker-1" in line]
    assert 'exit="exit status 0"' in end


def test_admin_requests_that_are_wrong_get_admin_errors(gateway):
    """400 with type, title, status, detail and instance."""
    answer = loopback.put(f"{gateway.admin_url}/api/key-management/keys", json={"name": "n"})
    bad_json = loopback.put(f"{gateway.admin_url}/api/provider-settings", content=b"{")
    unknown = loopback.put(
        f"{gateway.admin_url}/api/key-management/keys",
        json={"name": "n", "key": "k", "settingIds": ["nope"]},
    )

    for got, kind in [
        (answer, "/errors/key-manager"),
        (bad_json, "/errors/json-unmarshal"),
        (unknown, "/errors/key-manager"),
    ]:
        assert got.status_code == 400
        assert set(got.json()) == {"type", "title", "status", "detail", "instance"}
        assert got.json()["type"] == kind


def test_a_worker_tells_again_when_it_can_write(configured):
    """While the disk takes nothing its word is an old one; that must end with the cause."""
    run = configured.data_dir / "run"
    away = run.with_name("run-away")
    run.rename(away)
    time.sleep(3)
    away.rename(run)
    [path] = run.glob("gateway-worker-*.state.json")
    then = path.stat().st_mtime_ns
    deadline = time.monotonic() + 60
    while path.stat().st_mtime_ns == then:
        assert time.monotonic() < deadline
        time.sleep(0.05)
