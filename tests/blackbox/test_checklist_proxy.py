"""BricksLLM's data plane by its checklist, items 51 to 80: each test bears its item's number.

Only HTTP is spoken. Where Tollway differs on purpose, the test says what Tollway does.
"""

import base64
import json
import math
import struct
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support import loopback
from support.echo_provider import EchoProvider, echo_provider
from support.programs import Gateway, Program
from support.servers import RunningServer, free_port, run_apart
from support.stores import ClickHouseDatabase, NatsServer, PostgresDatabase

from infra.embedded.redis import REDIS

OPENAI = "/api/providers/openai/v1"
ANTHROPIC = "/api/providers/anthropic/v1"
CHAT = f"{OPENAI}/chat/completions"
EMBEDDINGS = f"{OPENAI}/embeddings"
MESSAGES = f"{ANTHROPIC}/messages"
KEYS = "/api/key-management/keys"

ASK = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
ASK_EMBEDDING = {"model": "text-embedding-3-small", "input": "hi"}
ASK_CLAUDE = {"model": "claude-sonnet-4-5", "max_tokens": 9, "messages": ASK["messages"]}
NOT_OURS = {**ASK, "stop": "x", "messages": [{"role": "user", "content": [{"n": 1.5}]}]}
"""What BricksLLM could not decode, and then let pass without asking whether it may."""
ANSWER = b'{"id":"x", "model":"m","usage":{"prompt_tokens":3,"completion_tokens":4}}'
SECRET = "sk-of-the-provider"
UNKNOWN = "sk-nobody-has-this"
UNKNOWN_MASKED = "sk-no" + "*" * 46


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Where answers of routes are kept."""
    server = RunningServer(REDIS, tmp_path_factory.mktemp("redis")).start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory,
    bus: NatsServer,
    module_postgres: PostgresDatabase,
    redis: RunningServer,
) -> Iterator[Gateway]:
    """A gateway with one data worker that keeps answers of routes."""
    program = Gateway(
        tmp_path_factory.mktemp("gateway"),
        {
            "NATS_URL": bus.url,
            "POSTGRES_URL": module_postgres.url,
            "REDIS_URL": redis.url,
            # Kept answers are looked for on a machine that runs many tests.
            "ROUTE_CACHE_TIMEOUT": "30s",
        },
    )
    program.start_ready()
    yield program
    program.kill()


@pytest.fixture(scope="module")
def echo_server() -> Iterator[EchoProvider]:
    """A provider that remembers what it was sent."""
    with echo_provider() as provider:
        yield provider


@pytest.fixture
def echo(echo_server: EchoProvider) -> EchoProvider:
    """It has heard nothing, and answers with a completion."""
    echo_server.heard.clear()
    echo_server.tell(ANSWER)
    return echo_server


@pytest.fixture
def mark(request: pytest.FixtureRequest) -> str:
    """A word of the test's own, so that tests do not meet each other's things."""
    return f"t{request.node.name.split('_')[1]}-{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="module")
def settings(gateway: Gateway, provider: str) -> dict[str, str]:
    """A setting for OpenAI and one for Anthropic, both of them calling the demo provider."""
    return {name: gateway.setting(provider, provider=name) for name in ("openai", "anthropic")}


@pytest.fixture(scope="module")
def bearer(gateway: Gateway, settings: dict[str, str]) -> dict[str, str]:
    """Headers with a key that has both settings and may do everything."""
    key = f"sk-all-{uuid.uuid4().hex}"
    gateway.key(key, settings["openai"], settingIds=list(settings.values()))
    return as_bearer(key)


def as_bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def good(answer: httpx.Response) -> Any:
    assert answer.status_code == 200, answer.text
    return answer.json()


def refused(
    answer: httpx.Response,
    status: int,
    kind: str,
    code: str,
    message: str,
    param: str | None = None,
) -> None:
    """The whole error of OpenAI's dialect, member by member."""
    assert answer.json() == {
        "error": {"message": message, "type": kind, "param": param, "code": code}
    }
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]


def refused_by_anthropic(answer: httpx.Response, status: int, kind: str, message: str) -> None:
    """The same in Anthropic's."""
    assert answer.json() == {
        "type": "error",
        "error": {"type": kind, "message": message},
        "request_id": answer.headers["request-id"],
    }
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"] == answer.headers["request-id"]


def eventually(
    holds: Callable[[], httpx.Response], wanted: int, seconds: float = 60
) -> httpx.Response:
    """The first answer with the status, or the last one after some seconds."""
    deadline = time.monotonic() + seconds
    while True:
        answer = holds()
        if answer.status_code == wanted or time.monotonic() > deadline:
            return answer
        time.sleep(0.02)


def delivered(client: httpx.Client, path: str, **asked: Any) -> tuple[bytes, bool]:
    """What came of an answer, and whether it had a clean end."""
    pieces: list[bytes] = []
    with client.stream("POST", path, **asked) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        try:
            pieces.extend(answer.iter_raw())
        except httpx.RemoteProtocolError:
            return b"".join(pieces), False
    return b"".join(pieces), True


# Who may call


def test_51_no_key_is_401(data):
    """In the shape of the path's dialect."""
    refused(
        data.post(CHAT, json=ASK),
        401,
        "authentication_error",
        "missing_api_key",
        "api key not found in header",
    )
    refused_by_anthropic(
        data.post(MESSAGES, json=ASK_CLAUDE),
        401,
        "authentication_error",
        "api key not found in header",
    )


def test_52_a_valid_key_is_served(data, bearer):
    """A chat completion, as the provider made it."""
    answer = good(data.post(CHAT, json=ASK, headers=bearer))

    assert (answer["object"], answer["model"]) == ("chat.completion", "gpt-4o")
    assert answer["choices"][0]["message"]["role"] == "assistant"
    assert answer["usage"]["total_tokens"] > 0


def test_53_a_key_without_a_setting_of_the_provider_is_401(data, gateway, settings, mark):
    """BricksLLM answers with the raw key in it; this one is not shown."""
    gateway.key(mark, settings["anthropic"])

    good(data.post(MESSAGES, json=ASK_CLAUDE, headers=as_bearer(mark)))
    refused(
        data.post(CHAT, json=ASK, headers=as_bearer(mark)),
        401,
        "authentication_error",
        "provider_setting_not_found",
        "the key has no provider setting for this path",
    )


def test_54_allowed_paths_are_templates_with_their_method(data, gateway, settings, echo, mark):
    """403 for others, whatever the body; all of them when nothing is set."""
    template = f"{OPENAI}/assistants/:assistant_id"
    paths = [
        {"path": CHAT, "method": "POST"},
        {"path": template, "method": "GET"},
        {"path": "/api/routes/*route", "method": "POST"},
    ]
    gateway.key(f"{mark}-few", gateway.setting(echo.url), allowedPaths=paths)
    gateway.key(f"{mark}-all", settings["openai"])
    few, unset = as_bearer(f"{mark}-few"), as_bearer(f"{mark}-all")

    good(data.post(CHAT, json=ASK, headers=few))
    good(data.get(f"{OPENAI}/assistants/asst_1", headers=few))
    told = (403, "permission_error", "path_not_allowed", "path is not allowed")
    refused(data.post(EMBEDDINGS, json=ASK_EMBEDDING, headers=few), *told)
    refused(data.post(EMBEDDINGS, content=b"{no json", headers=few), *told)
    refused(data.post(f"{OPENAI}/assistants/asst_1", json={}, headers=few), *told)
    refused(data.post(f"/api/custom/providers/{mark}/x", json={}, headers=few), *told)
    no_route = data.post(f"/api/routes/{mark}/x", json={}, headers=few)
    assert (no_route.status_code, no_route.json()["error"]["message"]) == (404, "route not found")
    good(data.post(CHAT, json=ASK, headers=unset))
    good(data.post(EMBEDDINGS, json=ASK_EMBEDDING, headers=unset))
    assert [one.target for one in echo.heard] == ["/v1/chat/completions", "/v1/assistants/asst_1"]


def test_55_allowed_models_of_the_setting_are_the_only_ones(data, gateway, provider, mark):
    """403 for others, whatever else the body holds."""
    gateway.key(mark, gateway.setting(provider, allowedModels=["gpt-4o-mini"]))
    told = (403, "permission_error", "model_not_allowed", "model is not allowed", "model")

    good(data.post(CHAT, json={**ASK, "model": "gpt-4o-mini"}, headers=as_bearer(mark)))
    for body in (ASK, NOT_OURS):
        refused(data.post(CHAT, json=body, headers=as_bearer(mark)), *told)


def test_56_a_key_is_401_as_soon_as_its_ttl_is_over(data, gateway, settings, mark):
    """BricksLLM serves it once more."""
    for attempt in range(5):
        raw = f"{attempt}{mark}"
        made = gateway.key(raw, settings["openai"], ttl="4s")
        expiry = int(str(made["createdAt"])) + 4
        answer = data.post(CHAT, json=ASK, headers=as_bearer(raw))
        if time.time() < expiry:
            break  # Otherwise the machine stood still meanwhile, and the answer says nothing.
    good(answer)
    while time.time() < expiry:
        time.sleep(0.01)
    refused(
        data.post(CHAT, json=ASK, headers=as_bearer(raw)),
        401,
        "authentication_error",
        "api_key_expired",
        f"key {raw[:5]}{'*' * 46} has expired",
    )


def test_58_the_key_is_taken_from_three_headers_in_order(data, gateway, settings, mark):
    """`x-api-key`, `api-key`, `Authorization` of any scheme; what comes later has no say."""
    gateway.key(mark, settings["openai"])

    for headers in (
        {"x-api-key": mark},
        {"api-key": mark},
        {"authorization": f"Bearer {mark}"},
        {"authorization": f"Basic {mark}"},
        {"x-api-key": mark, "api-key": UNKNOWN, "authorization": f"Bearer {UNKNOWN}"},
        {"api-key": mark, "authorization": f"Bearer {UNKNOWN}"},
    ):
        assert data.post(CHAT, json=ASK, headers=headers).status_code == 200, headers
    for headers in (
        {"x-api-key": UNKNOWN, "api-key": mark, "authorization": f"Bearer {mark}"},
        {"api-key": UNKNOWN, "authorization": f"Bearer {mark}"},
    ):
        assert data.post(CHAT, json=ASK, headers=headers).status_code == 401, headers


def test_59_an_unknown_key_is_masked_in_the_message(data):
    """Five characters and 46 stars; of a short one, its first and five stars."""
    for key, masked in (
        (UNKNOWN, UNKNOWN_MASKED),
        ("abcde", "a*****"),
        ("abcdef", "abcde" + "*" * 46),
    ):
        refused(
            data.post(CHAT, json=ASK, headers=as_bearer(key)),
            401,
            "authentication_error",
            "invalid_api_key",
            f"key {masked} is not found",
        )


def test_60_a_revoked_key_is_401(data, api, gateway, settings, mark):
    """From one call to the next."""
    made = gateway.key(mark, settings["openai"])

    def call() -> httpx.Response:
        return data.post(CHAT, json=ASK, headers=as_bearer(mark))

    good(call())
    good(api.patch(f"{KEYS}/{made['keyId']}", json={"revoked": True, "revokedReason": "lost"}))
    refused(
        eventually(call, 401),
        401,
        "authentication_error",
        "api_key_revoked",
        f"key {mark[:5]}{'*' * 46} has been revoked",
    )


def test_61_unknown_paths_are_404_unless_a_provider_may_know_them(
    data, gateway, bearer, echo, mark
):
    """With a key or without; below a provider's `/v1/` they are forwarded."""
    gateway.key(mark, gateway.setting(echo.url))

    for method, path in (
        ("POST", "/api/providers/nobody/v1/chat/completions"),
        ("GET", "/api/providers/openai/v2/models"),
        ("POST", "/nothing"),
        ("GET", "/api/routes/x"),
    ):
        for headers in ({}, bearer):
            refused(
                data.request(method, path, headers=headers),
                404,
                "invalid_request_error",
                "not_found",
                "route not supported",
            )
    assert not echo.heard
    good(data.post(f"{OPENAI}/of/tomorrow?a=1", json={}, headers=as_bearer(mark)))
    good(data.patch(CHAT, json=ASK, headers=as_bearer(mark)))
    assert [(one.method, one.target) for one in echo.heard] == [
        ("POST", "/v1/of/tomorrow?a=1"),
        ("PATCH", "/v1/chat/completions"),
    ]


def test_62_errors_have_the_shape_of_their_dialect(data, bearer, settings, gateway, mark):
    """Codes are texts, as typed clients expect them, and no prefix says who speaks."""
    gateway.key(mark, settings["openai"])
    asked = (
        data.post(CHAT, json=ASK),
        data.post(CHAT, json=ASK, headers=as_bearer(UNKNOWN)),
        data.post("/nothing", headers=bearer),
        data.post(CHAT, json=ASK, headers={**bearer, "x-request-timeout": "x"}),
        data.post(CHAT, content=b'{"model":', headers=bearer),
    )
    for answer in asked:
        assert set(answer.json()) == {"error"}
        error = answer.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert all(isinstance(error[name], str) for name in ("message", "type", "code"))
        assert "BricksLLM" not in answer.text
    assert [answer.status_code for answer in asked] == [401, 401, 404, 400, 400]
    assert len({answer.headers["x-request-id"] for answer in asked}) == len(asked)
    refused_by_anthropic(
        data.post(MESSAGES, json=ASK_CLAUDE, headers={"x-api-key": UNKNOWN}),
        401,
        "authentication_error",
        f"key {UNKNOWN_MASKED} is not found",
    )
    refused_by_anthropic(
        data.post(MESSAGES, json=ASK_CLAUDE, headers={"x-api-key": mark}),
        401,
        "authentication_error",
        "the key has no provider setting for this path",
    )


def test_63_a_wrong_timeout_is_400_and_a_short_one_504(data, bearer):
    """BricksLLM says 500 when the provider is too slow."""
    for wrong in ("soon", "-1s", "0s", "1 s"):
        refused(
            data.post(CHAT, json=ASK, headers={**bearer, "x-request-timeout": wrong}),
            400,
            "invalid_request_error",
            "bad_request",
            "invalid timeout",
        )
    slow = {**bearer, "x-demo-latency-ms": "8000"}
    refused(
        data.post(CHAT, json=ASK, headers={**slow, "x-request-timeout": "150ms"}),
        504,
        "api_error",
        "upstream_timeout",
        "the provider did not answer in time",
    )
    good(data.post(CHAT, json=ASK, headers={**bearer, "x-request-timeout": "1m30s"}))


def test_64_pages_of_any_origin_may_call(data, bearer):
    """OPTIONS is 204 and asks no key; every answer names the origin, or all."""
    asked = {
        "origin": "https://page.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,x-custom-event-id",
    }

    answer = data.options(CHAT, headers=asked)
    bare = data.options("/anything")

    allow = "access-control-allow-"
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers[f"{allow}origin"] == "https://page.example"
    assert answer.headers[f"{allow}methods"] == "POST"
    assert answer.headers[f"{allow}headers"] == "authorization,x-custom-event-id"
    assert answer.headers["access-control-max-age"] == "3600"
    assert bare.status_code == 204
    assert {bare.headers[allow + name] for name in ("origin", "methods", "headers")} == {"*"}
    for headers, status in ((bearer, 200), ({}, 401)):
        told = data.post(CHAT, json=ASK, headers={**headers, "origin": "https://page.example"})
        assert (told.status_code, told.headers[f"{allow}origin"]) == (
            status,
            "https://page.example",
        )
        plain = data.post(CHAT, json=ASK, headers=headers)
        assert (plain.status_code, plain.headers[f"{allow}origin"]) == (status, "*")


def test_70_rotation_spreads_over_the_settings(data, gateway, echo, mark):
    """By chance with rotationEnabled; without, the first one has them all."""
    made = [
        gateway.setting(echo.url, setting={"apikey": f"{SECRET}-{n}", "url": echo.url})
        for n in range(2)
    ]
    gateway.key(f"{mark}-turns", made[0], settingIds=made, rotationEnabled=True)
    gateway.key(f"{mark}-first", made[0], settingIds=made)

    def asked_as(key: str) -> list[str]:
        echo.heard.clear()
        for _ in range(60):
            good(data.post(CHAT, json=ASK, headers=as_bearer(key)))
        return [one.headers["authorization"] for one in echo.heard]

    both = [f"Bearer {SECRET}-{n}" for n in range(2)]
    assert set(asked_as(f"{mark}-turns")) == set(both)
    assert asked_as(f"{mark}-first") == [both[0]] * 60


# Relaying


def test_71_chat_is_relayed_byte_for_byte(data, gateway, echo, mark):
    """What the client wrote goes up, what the provider wrote comes down, its query too."""
    gateway.key(mark, gateway.setting(echo.url))
    sent = (
        b'{ "model":"gpt-4o","new":123456789012345678901234567890, "messages":[{"role":"user",'
        b'"content":[{"type":"text","text":"\\u00e9"}]}],"temperature":0.10}'
    )
    echo.tell(ANSWER + b"\n", x_mark="kept")

    answer = data.post(f"{CHAT}?a=1&b=%20", content=sent, headers=as_bearer(mark))

    assert (answer.status_code, answer.content) == (200, ANSWER + b"\n")
    assert answer.headers["x-mark"] == "kept"
    (heard,) = echo.heard
    assert (heard.method, heard.target) == ("POST", "/v1/chat/completions?a=1&b=%20")
    assert heard.body == sent


def test_72_embeddings_of_a_text_of_several_and_in_base64(data, bearer):
    """The vector is the same in both forms."""

    def embeddings(**changes: object) -> list[Any]:
        answer = good(data.post(EMBEDDINGS, json={**ASK_EMBEDDING, **changes}, headers=bearer))
        assert (answer["object"], answer["model"]) == ("list", "text-embedding-3-small")
        return [one["embedding"] for one in answer["data"]]

    (one,) = embeddings()
    several = embeddings(input=["hi", "you"])
    (coded,) = embeddings(encoding_format="base64")

    assert len(one) == 1536
    assert several[0] == one
    assert several[1] != one
    unpacked = struct.unpack(f"<{len(one)}f", base64.b64decode(coded))
    assert all(math.isclose(x, y, rel_tol=1e-6) for x, y in zip(unpacked, one, strict=True))


def test_73_anthropics_complete_with_its_own_header(data, gateway, echo, mark):
    """The provider's key takes the place of the client's."""
    gateway.key(mark, gateway.setting(echo.url, provider="anthropic", setting=credential(echo)))
    completion = b'{"type":"completion","completion":" Hi","stop_reason":"stop_sequence"}'
    echo.tell(completion)
    ask = {"model": "claude-2.1", "max_tokens_to_sample": 9, "prompt": "\n\nHuman: hi"}

    answer = data.post(
        f"{ANTHROPIC}/complete",
        json=ask,
        headers={"x-api-key": mark, "anthropic-version": "2023-06-01"},
    )

    assert (answer.status_code, answer.content) == (200, completion)
    (heard,) = echo.heard
    assert (heard.target, json.loads(heard.body)) == ("/v1/complete", ask)
    assert heard.headers["x-api-key"] == SECRET
    assert heard.headers["anthropic-version"] == "2023-06-01"
    assert "authorization" not in heard.headers


@pytest.mark.parametrize("status", [400, 401, 404, 418, 422, 429, 500, 503, 201])
def test_74_what_a_provider_answers_is_relayed(data, gateway, echo, mark, status):
    """Status, headers and body, be it an error."""
    gateway.key(mark, gateway.setting(echo.url))
    body = b'{ "error" : {"message":"of the provider","code":null}}\n'
    echo.tell(body, status=status, content_type="application/json; charset=utf-8", retry_after="7")

    answer = data.post(CHAT, json=ASK, headers=as_bearer(mark))

    assert (answer.status_code, answer.content) == (status, body)
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert answer.headers["retry-after"] == "7"
    assert len(echo.heard) == 1


def test_75_streams_are_relayed_event_by_event(data, gateway, bearer, echo, mark):
    """Comments and names too, to the end; one that breaks ends with an error and no `[DONE]`."""
    gateway.key(mark, gateway.setting(echo.url))
    stream = (
        b': begun\n\ndata: {"choices":[{"index":0,"delta":{"content":"\xc3\xa9"}}]}\n\n'
        b'event: odd\nid: 7\ndata: {"choices":[]}\n\ndata: [DONE]\n\n'
    )
    echo.tell(stream, content_type="text/event-stream")
    streaming = {**ASK, "stream": True}

    assert delivered(data, CHAT, json=streaming, headers=as_bearer(mark)) == (stream, True)

    said, is_whole = delivered(data, CHAT, json=streaming, headers=bearer)
    lines = [line for line in said.split(b"\n") if line]
    assert is_whole
    assert all(line.startswith(b"data: ") for line in lines)
    assert lines[-1] == b"data: [DONE]"
    chunks = [json.loads(line[6:]) for line in lines[:-1]]
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"

    said, is_whole = delivered(
        data,
        MESSAGES,
        json={**ASK_CLAUDE, "stream": True},
        headers={**bearer, "x-demo-chunks": "2"},
    )
    names = [line[7:].decode() for line in said.split(b"\n") if line.startswith(b"event: ")]
    assert is_whole
    assert names == [
        "message_start",
        "content_block_start",
        "ping",
        *["content_block_delta"] * 2,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]

    said, is_whole = delivered(
        data, CHAT, json=streaming, headers={**bearer, "x-demo-cut": "2", "x-demo-chunks": "4"}
    )
    last = said.rstrip(b"\n").rpartition(b"\n")[2]
    assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "upstream_unavailable"
    assert b"[DONE]" not in said
    assert not is_whole


def test_76_no_header_of_ours_and_no_key_of_the_client_goes_up(data, gateway, echo, mark):
    """Wherever it stood; what is the provider's business goes up."""
    gateway.key(mark, gateway.setting(echo.url, setting=credential(echo)))

    answer = data.post(
        f"{CHAT}?key={mark}&a=1",
        json=ASK,
        headers={
            "x-api-key": mark,
            "api-key": mark,
            "authorization": f"Bearer {mark}",
            "cookie": f"session={mark}",
            "x-custom-event-id": f"id-{mark}",
            "x-metadata": '{"a":1}',
            "x-request-timeout": "10s",
            "openai-organization": "org-1",
        },
    )

    assert answer.status_code == 200
    (heard,) = echo.heard
    assert heard.target == "/v1/chat/completions?a=1"
    assert heard.headers["authorization"] == f"Bearer {SECRET}"
    assert heard.headers["openai-organization"] == "org-1"
    assert not {
        "x-api-key",
        "api-key",
        "cookie",
        "x-custom-event-id",
        "x-metadata",
        "x-request-timeout",
    }.intersection(heard.headers)
    assert not any(mark in value for value in heard.headers.values())


def test_77_custom_providers_are_called_as_described(data, api, gateway, echo, mark):
    """Their JSON is read at its places, and goes up as it came; what nobody described is 404."""
    described = {
        "path": "/talk",
        "target_url": f"{echo.url}/deep/talk",
        "model_location": "engines.0.name",
        "request_prompt_location": "turns.#.say",
        "response_completion_location": "output.words",
        "stream_location": "live",
        "stream_end_word": "[END]",
        "stream_response_completion_location": "piece",
        "stream_max_empty_messages": 10,
    }
    good(
        api.post(
            "/api/custom/providers",
            json={
                "provider": mark,
                "route_configs": [described, {**described, "path": "/one", "model_location": "m"}],
                "authentication_param": "token",
            },
        )
    )
    setting = gateway.setting(
        "", provider=mark, setting={"token": SECRET}, allowedModels=["acme-1"]
    )
    gateway.key(mark, setting)
    sent = b'{ "m":"acme-1","turns":[{"say":"hi"}], "big":123456789012345678901}'

    def call(content: bytes, path: str = f"{mark}/one") -> httpx.Response:
        return data.post(f"/api/custom/providers/{path}", content=content, headers=as_bearer(mark))

    answer = eventually(lambda: call(sent), 200)
    (heard,) = echo.heard
    stream = b'data: {"piece":"a"}\n\ndata: [END]\n\n'
    echo.tell(stream, content_type="text/event-stream")
    streamed = call(b'{"m":"acme-1","live":true}')

    assert (answer.status_code, answer.content) == (200, ANSWER)
    assert (heard.target, heard.body) == ("/deep/talk", sent)
    assert heard.headers["authorization"] == f"Bearer {SECRET}"
    assert (streamed.content, streamed.headers["content-type"]) == (stream, "text/event-stream")
    deep = call(b'{"engines":[{"name":"acme-1"}],"m":"acme-2"}', f"{mark}/talk")
    assert deep.status_code == 200
    asked = len(echo.heard)
    for content, path in (
        (b'{"m":"acme-2"}', f"{mark}/one"),
        (b'{"m":["acme-1"]}', f"{mark}/one"),
        (b'{"m":"acme-1"}', f"{mark}/talk"),
    ):
        refused(
            call(content, path),
            403,
            "permission_error",
            "model_not_allowed",
            "model is not allowed",
            "model",
        )
    missing = (404, "invalid_request_error", "not_found")
    refused(call(sent, "nobody/one"), *missing, "requested custom provider is not found")
    refused(call(sent, f"{mark}/other"), *missing, "route config is not found")
    assert len(echo.heard) == asked


class Route:
    """A route over OpenAI at one address and DeepInfra at another, and its key."""

    def __init__(self, gateway: Gateway, data: httpx.Client, name: str, *urls: str) -> None:
        self.name = name
        self._admin_url = gateway.admin_url
        self._data = data
        settings = [
            gateway.setting(url, provider=provider)
            for url, provider in zip(urls, ("openai", "deepinfra"), strict=False)
        ]
        self._key_id = gateway.key(name, settings[0], settingIds=settings)["keyId"]

    def make(self, path: str, *steps: dict[str, object], **members: object) -> str:
        """Its path under 8002, once it is in force."""
        made = loopback.post(
            f"{self._admin_url}/api/routes",
            json={
                "name": path,
                "path": f"/{self.name}/{path}",
                "keyIds": [self._key_id],
                "steps": list(steps),
                "cacheConfig": {"enabled": False},
                **members,
            },
        )
        good(made)
        target = f"/api/routes/{self.name}/{path}"

        def probe() -> httpx.Response:
            return self._data.post(target, content=b"{", headers=as_bearer(self.name))

        # No JSON: refused by the route as soon as it is there, and no provider hears of it.
        assert eventually(probe, 400).status_code == 400
        return target

    def call(self, path: str, **changes: Any) -> httpx.Response:
        """A call of it."""
        headers = as_bearer(self.name) | changes.pop("headers", {})
        return self._data.post(path, json={**ASK, **changes}, headers=headers)


def test_78_routes_try_again_and_go_on(data, gateway, echo, mark):
    """By status, or on any but 200; the last answer is the client's; streams go on as well."""
    with echo_provider() as second:
        second.tell(ANSWER)
        route = Route(gateway, data, mark, echo.url, second.url)
        first_step = {
            "provider": "openai",
            "model": "m-1",
            "retries": 2,
            "retryInterval": "1ms",
        }
        steps = [first_step, {"provider": "deepinfra", "model": "m-2"}]
        usual = route.make("usual", *steps)
        of_any = route.make("any", *steps, failoverOn="any")
        alone = route.make("alone", first_step)

        echo.tell(b'{"error":{"message":"busy"}}', status=503)
        answer = route.call(usual)
        models = [json.loads(one.body)["model"] for one in (*echo.heard, *second.heard)]
        streamed = route.call(usual, stream=True)
        echo.heard.clear()
        last = route.call(alone)
        tried = len(echo.heard)

        echo.tell(b'{"error":{"message":"yours"}}', status=400)
        second.heard.clear()
        mine = route.call(usual)
        left_alone = not second.heard
        anyhow = route.call(of_any)

    assert (answer.status_code, answer.content) == (200, ANSWER)
    assert models == ["m-1"] * 3 + ["m-2"]
    assert streamed.status_code == 200
    assert (last.status_code, last.json()["error"]["message"], tried) == (503, "busy", 3)
    assert (mine.status_code, mine.json()["error"]["message"]) == (400, "yours")
    assert left_alone
    assert (anyhow.status_code, anyhow.content) == (200, ANSWER)


@pytest.fixture
def books(
    tmp_path: Path,
    bus: NatsServer,
    module_postgres: PostgresDatabase,
    clickhouse: ClickHouseDatabase,
) -> Iterator[str]:
    """Metering, and reports of what it booked; where they are asked for."""
    run_apart(bus.migrate(price_book=True))
    port = free_port()
    environ = {
        "NATS_URL": bus.url,
        "POSTGRES_URL": module_postgres.url,
        "CLICKHOUSE_URL": clickhouse.url,
        "CLICKHOUSE_DATABASE": clickhouse.database,
        "REPORTING_PORT": str(port),
        "RUN_DIR": str(tmp_path),
    }
    programs = [
        Program(name, [name], environ, tmp_path / f"{name}.log")
        for name in ("metering", "reporting")
    ]
    for program in programs:
        program.start()
    url = f"http://127.0.0.1:{port}"
    programs[1].wait_until(lambda: loopback.get(f"{url}/api/ready").status_code == 200)
    yield url
    for program in programs:
        program.kill()


def test_79_an_answer_is_kept_for_its_ttl(data, gateway, echo, books, mark):
    """The second call asks no provider and costs nothing; other bodies are other calls."""
    priced = ANSWER.replace(b'"m"', b'"gpt-4o"')
    echo.tell(priced)
    route = Route(gateway, data, mark, echo.url)
    step = {"provider": "openai", "model": "gpt-4o"}
    path = route.make("long", step, cacheConfig={"enabled": True, "ttl": "1h"})
    short = route.make("short", step, cacheConfig={"enabled": True, "ttl": "1s"})

    def call(path: str, custom_id: str, **changes: object) -> httpx.Response:
        named = {"x-custom-event-id": f"{mark}-{custom_id}"}
        return route.call(path, headers=named, **changes)

    def until(path: str, found: str, custom_id: str) -> httpx.Response:
        """Answers are kept behind the call's back, and forgotten in their own time."""
        deadline = time.monotonic() + 60
        while True:
            answer = call(path, custom_id)
            if answer.headers["x-tollway-cache"] == found or time.monotonic() > deadline:
                return answer

    assert call(path, "first").headers["x-tollway-cache"] == "miss"
    assert until(path, "hit", "warm").headers["x-tollway-cache"] == "hit"
    asked = len(echo.heard)
    hit = call(path, "hit")
    assert (hit.content, hit.headers["x-tollway-cache"]) == (priced, "hit")
    assert len(echo.heard) == asked
    other = call(path, "other", temperature=0.5)
    assert (other.headers["x-tollway-cache"], len(echo.heard)) == ("miss", asked + 1)
    for found in ("hit", "miss"):
        assert until(short, found, f"short-{found}").headers["x-tollway-cache"] == found

    def booked(custom_id: str) -> dict[str, Any]:
        deadline = time.monotonic() + 60
        while True:
            found = loopback.get(f"{books}/api/events", params={"customId": f"{mark}-{custom_id}"})
            if found.status_code == 200 and found.json():
                return dict(found.json()[0])
            assert time.monotonic() < deadline, found.text
            time.sleep(0.05)

    first, kept = booked("first"), booked("hit")
    assert (first["provider"], kept["provider"]) == ("openai", "cached")
    assert first["cost_in_usd"] > 0
    assert (kept["cost_in_usd"], kept["prompt_token_count"], kept["status"]) == (0, 0, 200)


def test_80_azures_address_is_made_of_resource_deployment_and_version(
    tmp_path, data, gateway, bus, module_postgres, echo, mark
):
    """The deployment and the version come from the client's path, the resource from the setting."""
    with_url = {**credential(echo), "resourceName": "mine"}
    gateway.key(mark, gateway.setting("", provider="azure", setting=with_url))
    deployment = "/openai/deployments/my-4o"
    query = "?api-version=2024-10-21"

    for path in ("chat/completions", "completions", "embeddings"):
        answer = data.post(
            f"/api/providers/azure{deployment}/{path}{query}",
            json={"messages": [], "input": "hi"},
            headers={"api-key": mark},
        )
        assert answer.status_code == 200, answer.text
    assert [one.target for one in echo.heard] == [
        f"{deployment}/{path}{query}" for path in ("chat/completions", "completions", "embeddings")
    ]
    assert {one.headers["api-key"] for one in echo.heard} == {SECRET}
    assert not any("authorization" in one.headers for one in echo.heard)

    # Whom it would call without a URL of its own, an outbound proxy is told.
    echo.heard.clear()
    echo.tell(b"", status=502)
    environ = {
        "NATS_URL": bus.url,
        "POSTGRES_URL": module_postgres.url,
        "UPSTREAM_PROXY_URL": echo.url,
    }
    behind = Gateway(tmp_path, environ).start_ready()
    try:
        setting = {"apikey": SECRET, "resourceName": "mine"}
        behind.key(f"{mark}-far", behind.setting("", provider="azure", setting=setting))
        answer = loopback.post(
            f"{behind.proxy_url}/api/providers/azure{deployment}/chat/completions{query}",
            json=ASK,
            headers={"api-key": f"{mark}-far"},
        )
    finally:
        behind.kill()
    refused(answer, 502, "api_error", "upstream_unavailable", "the provider gave no usable answer")
    assert {(one.method, one.target) for one in echo.heard} == {
        ("CONNECT", "mine.openai.azure.com:443")
    }


def credential(echo: EchoProvider) -> dict[str, str]:
    """A setting's secret at the provider that remembers."""
    return {"apikey": SECRET, "url": echo.url}
