"""Answers of routes that are kept: who is given them, how they are marked, and Redis being away."""

import asyncio
import gzip
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest
from redis import Redis
from support import loopback
from support.body_provider import Request, body_provider, plain
from support.echo_provider import EchoProvider
from support.events import completed
from support.programs import Gateway
from support.servers import RunningServer
from support.stores import NatsServer, PostgresDatabase

from gateway.adapters.redis_cache import RedisCache, open_cache
from gateway.endpoints.canonical import BYTES_MAX, canonical_digest
from gateway.ports import CachedAnswer
from gateway.settings import GatewaySettings
from gateway.telemetry import Counters
from infra.embedded.redis import REDIS
from runtime.settings import Secret

ANSWER = b'{"id":"x","model":"m","usage":{"prompt_tokens":3,"completion_tokens":4}}'
ASK = {"messages": [{"role": "user", "content": "hi"}], "temperature": 0.5, "n": 1}
STREAM = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\ndata: [DONE]\n\n'


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A Redis for the tests of this file."""
    server = RunningServer(REDIS, tmp_path_factory.mktemp("redis"))
    start_without_disk(server)
    yield server
    server.kill()


def start_without_disk(server: RunningServer) -> None:
    """Nothing is written: it would answer nobody while the disk stalls, and be taken for silent."""
    server.start()
    with Redis.from_url(server.url, socket_timeout=60) as client:
        client.config_set("appendonly", "no")


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory,
    bus: NatsServer,
    module_postgres: PostgresDatabase,
    redis: RunningServer,
) -> Iterator[Gateway]:
    """A gateway that keeps answers of up to 10,000 bytes."""
    directory: Path = tmp_path_factory.mktemp("gateway")
    program = Gateway(
        directory,
        {
            "NATS_URL": bus.url,
            "POSTGRES_URL": module_postgres.url,
            "REDIS_URL": redis.url,
            "ROUTE_CACHE_BYTES_MAX": "10000",
            # Kept answers are looked for on a machine that runs many tests.
            "ROUTE_CACHE_TIMEOUT": "2s",
        },
    )
    program.start_ready()
    yield program
    program.kill()


class Cached:
    """A route that keeps answers, and two keys that may use it."""

    def __init__(
        self,
        gateway: Gateway,
        url: str,
        name: str,
        ttl: str,
        steps: Sequence[dict[str, object]] = ({"provider": "openai", "model": "m"},),
    ) -> None:
        self.gateway = gateway
        self.name = name
        setting = gateway.setting(url)
        self.keys = [f"sk-{name}-{n}" for n in range(2)]
        self.key_ids = [gateway.key(key, setting)["keyId"] for key in self.keys]
        answer = loopback.post(
            f"{gateway.admin_url}/api/routes",
            json={
                "name": name,
                "path": f"/{name}",
                "keyIds": self.key_ids,
                "steps": list(steps),
                "cacheConfig": {"enabled": True, "ttl": ttl},
            },
        )
        assert answer.status_code == 200, answer.text
        self.id = answer.json()["id"]

    def ask(self, ask: object = None, key: int = 0, **headers: str) -> httpx.Response:
        content = ask if isinstance(ask, bytes) else json.dumps(ASK if ask is None else ask)
        deadline = time.monotonic() + 60
        while True:
            answer = loopback.post(
                f"{self.gateway.proxy_url}/api/routes/{self.name}",
                content=content,
                headers={"authorization": f"Bearer {self.keys[key]}", **headers},
            )
            if answer.status_code != 404:
                return answer
            assert time.monotonic() < deadline, f"{self.name} is not in force"
            time.sleep(0.1)

    def mark(self, *args: object, **options: object) -> str:
        """What a call is told of where its answer is from, once what came before is kept."""
        return str(self.ask(*args, **options).headers["x-tollway-cache"])

    def until_hit(self, *args: object, **options: object) -> httpx.Response:
        """Answers are kept behind the call's back."""
        deadline = time.monotonic() + 60
        while True:
            answer = self.ask(*args, **options)
            if answer.headers["x-tollway-cache"] == "hit" or time.monotonic() > deadline:
                return answer
            time.sleep(0.02)


@pytest.fixture
def cached(gateway: Gateway, echo: EchoProvider, request: pytest.FixtureRequest) -> Cached:
    """Named after the test."""
    echo.heard.clear()
    echo.tell(ANSWER)
    return Cached(gateway, echo.url, request.node.name, "1h")


def test_the_same_call_is_answered_without_the_provider(
    cached: Cached, echo: EchoProvider, bus: NatsServer
):
    """The same bytes, marked, and in the books as of no provider, with nothing tried."""
    assert cached.mark() == "miss"
    hit = cached.until_hit()
    asked = len(echo.heard)
    again = cached.ask(**{"x-custom-event-id": "a-hit"})

    assert (hit.content, again.content) == (ANSWER, ANSWER)
    assert hit.headers["content-type"] == "application/json"
    assert again.headers["x-request-id"] != hit.headers["x-request-id"]
    assert len(echo.heard) == asked
    event = completed(bus, "a-hit")
    assert (event.is_cache_hit, event.attempts, event.status) == (True, (), 200)
    assert event.route_id == cached.id
    assert event.response.content == ANSWER


async def test_a_kept_answer_is_booked_as_of_the_model_that_gave_it(
    gateway: Gateway, bus: NatsServer
):
    """Not as of the route's first step, which had none to give."""

    async def second_only(request: Request, writer: asyncio.StreamWriter) -> None:
        is_second = b'"of-second"' in await request.read()
        writer.write(plain(ANSWER) if is_second else plain(b"{}", status=b"503 Busy"))

    steps = [{"provider": "openai", "model": model} for model in ("of-first", "of-second")]
    async with body_provider(second_only) as provider:
        cached = await asyncio.to_thread(Cached, gateway, provider.url, "second", "1h", steps)
        await asyncio.to_thread(cached.until_hit)
        await asyncio.to_thread(cached.ask, **{"x-custom-event-id": "hit-of-second"})

    event = await asyncio.to_thread(completed, bus, "hit-of-second")
    assert event.is_cache_hit
    assert event.call.model_asked == "of-second"


def test_writing_the_same_body_otherwise_is_the_same_call(cached: Cached):
    """The order of members and space have no meaning."""
    cached.until_hit()
    otherwise = json.dumps(dict(reversed(ASK.items())), indent=2).encode()

    assert cached.mark(otherwise) == "hit"


@pytest.mark.parametrize(
    "changes",
    [
        {"temperature": 0.6},
        {"n": 1.0},
        {"tools": []},
        {"user": "u"},
        {"model": "other"},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]},
    ],
)
def test_whatever_else_differs_makes_another_call(cached: Cached, changes: dict[str, object]):
    """All of the body is looked at, not the messages alone."""
    cached.until_hit()

    assert cached.mark({**ASK, **changes}) == "miss"


def test_no_key_is_given_what_another_was_answered(cached: Cached):
    """Tenants do not share answers."""
    cached.until_hit()

    assert cached.mark(key=1) == "miss"


def test_a_changed_route_forgets(cached: Cached):
    """Its answers might be others now."""
    cached.until_hit()
    url = f"{cached.gateway.admin_url}/api/routes/{cached.id}"
    steps = [{"provider": "openai", "model": "n"}]
    assert loopback.patch(url, json={"steps": steps}).status_code == 200
    deadline = time.monotonic() + 60
    while cached.ask(**{"x-n": "1"}).headers["x-tollway-cache"] == "hit":
        assert time.monotonic() < deadline


def test_streams_are_kept_as_streams(cached: Cached, echo: EchoProvider, bus: NatsServer):
    """Byte for byte what the first client got, and as what it is."""
    echo.tell(STREAM, content_type="text/event-stream")
    ask = {**ASK, "stream": True}
    assert cached.mark(ask) == "miss"
    hit = cached.until_hit(ask, **{"x-custom-event-id": "a-stream"})

    assert hit.content == STREAM
    assert hit.headers["content-type"] == "text/event-stream"
    assert "content-length" not in hit.headers
    assert cached.mark() == "miss"


@pytest.mark.parametrize("kind", ["error", "long", "cut"])
def test_only_whole_good_answers_of_a_decent_size_are_kept(
    cached: Cached, echo: EchoProvider, kind: str
):
    """Not an error, nothing over the limit, no stream that does not show its end."""
    ask: dict[str, object] = dict(ASK)
    if kind == "error":
        echo.tell(b'{"error":{}}', status=400)
    elif kind == "long":
        echo.tell(b'{"a":"' + b"x" * 10_000 + b'"}')
    else:
        echo.tell(STREAM.partition(b"data: [DONE]")[0], content_type="text/event-stream")
        ask["stream"] = True
    cached.ask(ask)
    time.sleep(0.2)

    assert cached.mark(ask) == "miss"
    assert len(echo.heard) == 2


NO_ANSWERS = [
    b'{"error":{"message":"overloaded","code":529}}',
    b'{"type":"error","error":{"type":"overloaded_error"}}',
    b"",
    ANSWER[:-5],
    b"<html>not the provider</html>",
    b"[1]",
]


def test_an_answer_that_only_calls_itself_good_is_not_kept(cached: Cached, echo: EchoProvider):
    """Status 200 over an error, over nothing, over half an answer, over something else."""
    for n, body in enumerate(NO_ANSWERS):
        echo.tell(body)
        assert cached.ask({**ASK, "n": n}).content == body
    time.sleep(0.2)
    echo.tell(ANSWER)

    assert [cached.mark({**ASK, "n": n}) for n in range(len(NO_ANSWERS))] == ["miss"] * 6


def test_an_answer_in_an_encoding_is_not_kept(cached: Cached, echo: EchoProvider):
    """Who is given it again would not be told that it is compressed."""
    echo.tell(gzip.compress(ANSWER), content_encoding="gzip")
    assert cached.ask().content == ANSWER
    time.sleep(0.2)

    assert cached.ask().content == ANSWER
    assert cached.mark() == "miss"


BROKEN_STREAMS = [
    b'data: {"choices":[]}\n\ndata: {"error":{"message":"boom"}}\n\ndata: [DONE]\n\n',
    b'data: {"choices":[{"delta":{"content":"data: [DONE]"}}]}\n\n',
    b'data: {"type":"content_block_delta","delta":{"text":"message_stop"}}\n\n',
    b'event: error\ndata: {"type":"error","error":{}}\n\n'
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
    b"event: error\ndata: overloaded\n\ndata: [DONE]\n\n",
]


def test_a_stream_that_breaks_or_only_speaks_of_its_end_is_not_kept(
    cached: Cached, echo: EchoProvider
):
    """An error before the end, and texts that look like an end."""
    asks = [{**ASK, "stream": True, "n": n} for n in range(len(BROKEN_STREAMS))]
    for ask, stream in zip(asks, BROKEN_STREAMS, strict=True):
        echo.tell(stream, content_type="text/event-stream")
        assert cached.ask(ask).content == stream
    time.sleep(0.2)

    assert [cached.mark(ask) for ask in asks] == ["miss"] * 5


def test_a_stream_that_speaks_of_errors_is_kept(cached: Cached, echo: EchoProvider):
    """Texts are no errors, nor is a member that says that there was none."""
    ask = {**ASK, "stream": True}
    echo.tell(
        b'data: {"error":null,"choices":[{"delta":{"content":"\\"error\\""},"a":{"error":1}}]}\n\n'
        b"data: [DONE]\n\n",
        content_type="text/event-stream",
    )

    assert cached.until_hit(ask).headers["x-tollway-cache"] == "hit"


def test_another_tollway_s_mark_does_not_come_down(cached: Cached, echo: EchoProvider):
    """It would stand beside ours."""
    echo.tell(ANSWER, x_tollway_cache="hit")

    assert cached.mark() == "miss"


def test_headers_that_change_what_an_answer_is_make_another_call(cached: Cached):
    """Betas are asked for by header."""
    cached.until_hit(**{"openai-beta": "one"})

    assert cached.mark(**{"openai-beta": "one"}) == "hit"
    assert cached.mark(**{"openai-beta": "two"}) == "miss"
    assert cached.mark() == "miss"


def test_a_key_that_lost_a_model_is_not_given_its_answers(
    gateway: Gateway, echo: EchoProvider, request: pytest.FixtureRequest
):
    """What is left of the route might have answered otherwise."""
    echo.tell(ANSWER)
    steps = [{"provider": "openai", "model": model} for model in ("m", "other")]
    cached = Cached(gateway, echo.url, request.node.name, "1h", steps)
    cached.until_hit()
    url = f"{gateway.admin_url}/api/key-management/keys/{cached.key_ids[0]}"
    assert loopback.patch(url, json={"allowedModels": ["other"]}).status_code == 200
    deadline = time.monotonic() + 60
    while cached.mark({**ASK, "n": 2}) == "hit" or b'"other"' not in echo.heard[-1].body:
        assert time.monotonic() < deadline
        cached.ask({**ASK, "x": time.monotonic()})
    echo.heard.clear()

    assert cached.mark() == "miss"


def test_answers_are_forgotten_in_time(gateway: Gateway, echo: EchoProvider):
    """The route's ttl."""
    echo.tell(ANSWER)
    cached = Cached(gateway, echo.url, "short", "300ms")
    cached.until_hit()
    deadline = time.monotonic() + 60
    while cached.mark() == "hit":
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_without_redis_every_call_is_a_miss(cached: Cached, redis: RunningServer, gateway: Gateway):
    """Answered all the same; kept again once it is back."""
    cached.until_hit()
    redis.kill()
    try:
        assert cached.ask().status_code == 200
        assert cached.mark() == "miss"
    finally:
        start_without_disk(redis)
    assert cached.until_hit().headers["x-tollway-cache"] == "hit"


async def all_of(cache: RedisCache) -> list[CachedAnswer]:
    """The four that were kept, once all of them are to be had."""
    async with asyncio.timeout(60):
        while True:
            found = [await cache.get(bytes([n]) * 32) for n in range(4)]
            if None not in found:
                return [one for one in found if one is not None]
            await asyncio.sleep(0.02)


async def test_a_redis_that_hangs_is_not_waited_for_and_mixes_nothing_up(redis: RunningServer):
    """A connection that was given up in the middle of an answer is not used for the next."""
    counters = Counters()
    settings = GatewaySettings(redis_url=Secret(redis.url))
    async with open_cache(settings, counters) as cache:
        for n in range(4):
            cache.put(bytes([n]) * 32, CachedAnswer("text/plain", False, bytes([n])), 60.0)
        await all_of(cache)
        # A machine that is busy with other things may have been too slow for some already.
        late = counters.cache_unavailable
        redis.pause()
        try:
            found = [await cache.get(bytes([n]) * 32) for n in range(4)]
        finally:
            redis.resume()
        assert found == [None] * 4
        assert counters.cache_unavailable == late + 4
        again = await all_of(cache)

    assert [one.content for one in again] == [bytes([n]) for n in range(4)]


def test_a_body_whose_meaning_is_not_clear_is_like_no_other():
    """A member twice, numbers that are none, too long, too deep, no JSON."""
    unclear = [b'{"a":1,"a":1}', b'{"a":NaN}', b"[" * 5000 + b"]" * 5000, b"{", b"\xff"]

    assert not any(canonical_digest(body) for body in unclear)
    assert not canonical_digest(b'"' + b"x" * BYTES_MAX + b'"')


def test_parts_of_a_key_do_not_run_into_each_other():
    """Nor a number into a text that looks like it."""
    assert canonical_digest(b"{}", b"a", b"bc") != canonical_digest(b"{}", b"ab", b"c")
    assert canonical_digest(b'{"a":1}') != canonical_digest(b'{"a":"1"}')
    assert canonical_digest(b"[[],[]]") != canonical_digest(b"[[[]]]")
    assert canonical_digest(b'{"a":"\\u00e9"}') == canonical_digest('{"a":"é"}'.encode())
