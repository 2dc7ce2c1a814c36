"""Providers, dialects and keys as clients meet them: who is called, as whom, and what is refused."""

import itertools
import json
from collections.abc import Iterator
from http.client import HTTPConnection

import httpx
import pytest
from support import loopback
from support.echo_provider import EchoProvider
from support.programs import Gateway

CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
MESSAGE = {"model": "claude-sonnet-4-5", "max_tokens": 9, "messages": CHAT["messages"]}
SECRET = "sk-of-the-provider-0123"


@pytest.fixture(scope="module")
def settings(gateway: Gateway, echo: EchoProvider) -> dict[str, str]:
    """A setting of every provider, all of them calling the same server."""
    extra = {"azure": {"resourceName": "mine"}}
    return {
        name: gateway.setting(
            echo.url,
            provider=name,
            setting={"apikey": SECRET, "url": echo.url, **extra.get(name, {})},
        )
        for name in (
            "openai",
            "anthropic",
            "azure",
            "vllm",
            "deepinfra",
            "gemini",
            "mistral",
            "groq",
            "openrouter",
            "ollama",
            "deepseek",
        )
    }


@pytest.fixture(scope="module")
def of_mine(gateway: Gateway, echo: EchoProvider) -> str:
    """A setting of a provider that an operator described."""
    described = {
        "provider": "of-mine",
        "route_configs": [
            {
                "path": "/chat",
                "target_url": f"{echo.url}/chat",
                "model_location": "model",
                "request_prompt_location": "messages",
                "response_completion_location": "text",
                "stream_location": "stream",
                "stream_end_word": "end",
                "stream_response_completion_location": "text",
            }
        ],
        "authentication_param": "apikey",
    }
    made = loopback.post(f"{gateway.admin_url}/api/custom/providers", json=described)
    assert made.status_code == 200, made.text
    return gateway.setting(echo.url, provider="of-mine", setting={"apikey": SECRET})


@pytest.fixture(scope="module")
def all_key(gateway: Gateway, settings: dict[str, str]) -> str:
    """A key with a setting of every provider, OpenAI's first."""
    gateway.key("sk-all", settings["openai"], settingIds=list(settings.values()))
    return "sk-all"


@pytest.fixture
def client(gateway: Gateway, all_key: str, echo: EchoProvider) -> Iterator[httpx.Client]:
    """Calls the data plane with that key."""
    echo.heard.clear()
    echo.tell(b"{}")
    headers = {"authorization": f"Bearer {all_key}"}
    with loopback.Client(base_url=gateway.proxy_url, headers=headers) as client:
        yield client


@pytest.mark.parametrize(
    ("path", "target", "header"),
    [
        ("openai/v1/chat/completions", "/v1/chat/completions", "authorization"),
        ("anthropic/v1/messages", "/v1/messages", "x-api-key"),
        ("anthropic/v1/chat/completions", "/v1/chat/completions", "authorization"),
        (
            "azure/openai/deployments/my-4o/chat/completions?api-version=2024-10-21",
            "/openai/deployments/my-4o/chat/completions?api-version=2024-10-21",
            "api-key",
        ),
        ("azure/openai/v1/responses", "/openai/v1/responses", "api-key"),
        ("vllm/v1/completions", "/v1/completions", "authorization"),
        ("deepinfra/v1/embeddings", "/embeddings", "authorization"),
        ("gemini/v1/chat/completions", "/chat/completions", "authorization"),
        ("mistral/v1/fim/completions", "/v1/fim/completions", "authorization"),
        ("groq/v1/audio/speech", "/v1/audio/speech", "authorization"),
        ("openrouter/v1/chat/completions", "/v1/chat/completions", "authorization"),
        ("ollama/v1/chat/completions", "/v1/chat/completions", "authorization"),
        ("deepseek/v1/chat/completions", "/v1/chat/completions", "authorization"),
    ],
)
def test_each_provider_is_called_its_own_way(client, echo, path, target, header):
    """The path under its base, its credential where it looks for one, and nobody else's."""
    answer = client.post(f"/api/providers/{path}", json=CHAT, headers={"x-goog-api-key": "mine"})

    assert answer.status_code == 200
    (heard,) = echo.heard
    assert heard.target == target
    shown = {
        name: value
        for name, value in heard.headers.items()
        if name in {"authorization", "x-api-key", "api-key", "x-goog-api-key"}
    }
    assert shown == {header: f"Bearer {SECRET}" if header == "authorization" else SECRET}


@pytest.mark.parametrize(
    ("path", "asks"),
    [
        ("openai/v1/chat/completions", True),
        ("openai/v1/completions", True),
        ("openai/v1/responses", False),
        ("anthropic/v1/messages", False),
        ("mistral/v1/chat/completions", False),
        ("openrouter/v1/chat/completions", False),
        ("deepseek/v1/chat/completions", True),
        ("azure/openai/deployments/d/chat/completions?api-version=2024-10-21", True),
        ("azure/openai/deployments/d/chat/completions?api-version=2024-02-01", False),
        ("azure/openai/deployments/d/chat/completions", False),
        ("azure/openai/v1/chat/completions", True),
    ],
)
def test_usage_is_asked_for_where_the_provider_knows_how(client, echo, path, asks):
    """Only there is the body another one than the client's."""
    body = json.dumps({**CHAT, "stream": True}).encode()

    client.post(f"/api/providers/{path}", content=body)

    (heard,) = echo.heard
    assert (heard.body != body) is asks
    assert (b'"include_usage":true' in heard.body) is asks


@pytest.mark.parametrize(
    "sent",
    [
        {"headers": {"x-api-key": "sk-all"}},
        {"headers": {"api-key": "sk-all"}},
        {"headers": {"authorization": "Token sk-all"}},
        {"headers": {"x-goog-api-key": "sk-all"}},
        {"params": {"key": "sk-all", "a": "1"}},
        {"params": {"api_key": "sk-all", "a": "1"}},
        {"headers": {"x-api-key": "sk-all", "api-key": "no", "authorization": "Bearer no"}},
        {"headers": {"api-key": "sk-all", "authorization": "Bearer no"}},
    ],
)
def test_a_key_may_come_in_any_dialect_s_place_and_stays_here(gateway, client, echo, sent):
    """In the order x-api-key, api-key, Authorization; no client credential reaches a provider."""
    url = f"{gateway.proxy_url}/v1/chat/completions"
    answer = loopback.post(url, json=CHAT, **sent)

    assert answer.status_code == 200
    (heard,) = echo.heard
    assert "sk-all" not in heard.target + str(heard.headers)
    assert heard.target.partition("?")[2] == ("a=1" if "params" in sent else "")


def test_errors_of_ours_name_their_code_in_openai_s_shape(client):
    """Unknown paths and methods too, each with a request id and open to any page."""
    answer = client.post("/nowhere", json=CHAT)

    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize(
    "path",
    [
        "/v1/../v1/chat/completions",
        "/v1/%2e%2e/chat/completions",
        "/v1/files/%2E%2e%2Fmodels",
        "/v1/new%2fthing",
        "/v1/new%5cthing",
        "/v1/new\\thing",
        "/v1//organization/costs",
        "/v1/files/a%00b",
        "/api/providers/anthropic/v1/./messages",
        "/v1/x/%252e%252e/y",
        "/v1/threads/t%2Fruns",
        "/v1/vector_stores/..;/organization",
        "/v1/vector_stores/%2e%2e;a=b/organization",
        "/v1/files/.;",
        "/api/providers/azure/openai/deployments/d%2fe/chat/completions",
    ],
)
def test_paths_that_a_provider_could_read_otherwise_are_refused(gateway, all_key, echo, path):
    """400, and nobody is asked."""
    echo.heard.clear()
    # httpx would tidy the path up.
    connection = HTTPConnection("127.0.0.1", gateway.proxy_port, timeout=60)
    connection.request("POST", path, json.dumps(CHAT), {"x-api-key": all_key})

    assert connection.getresponse().status == 400
    connection.close()
    assert not echo.heard


@pytest.mark.parametrize(
    "path",
    [
        "/v1/organization/costs",
        "/v1/%6Frganization/costs",
        "/v1/organization;a/costs",
        "/v1/organizations/api_keys",
        "/v1/projects/p/users/u/roles",
        "/v1/%50rojects/p/roles",
    ],
)
def test_the_account_at_the_provider_is_closed(client, echo, path):
    """However it is written."""
    for prefix in ("", "/api/providers/openai"):
        answer = client.get(prefix + path)

        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "path_not_allowed")
    assert not echo.heard


def test_pages_of_any_origin_may_ask_and_read(client, echo):
    """A preflight is answered without a key; every answer names the origin that asked."""
    asked = {
        "origin": "https://page.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "x-api-key, x-custom",
    }
    preflight = client.options("/v1/chat/completions", headers=asked)
    echo.tell(b"{}", access_control_allow_origin="https://provider.example")
    answer = client.post("/v1/chat/completions", json=CHAT, headers={"origin": asked["origin"]})

    assert preflight.status_code == 204
    allowed = {
        name.removeprefix("access-control-"): value
        for name, value in preflight.headers.items()
        if name.startswith("access-control-")
    }
    assert allowed == {
        "allow-origin": "https://page.example",
        "allow-methods": "POST",
        "allow-headers": "x-api-key, x-custom",
        "max-age": "3600",
    }
    assert answer.headers.get_list("access-control-allow-origin") == ["https://page.example"]


def test_a_provider_s_own_credential_never_comes_down(client, echo):
    """Repeated in an error's body or headers, it is starred out."""
    echo.tell(
        json.dumps({"error": {"message": f"bad key {SECRET}"}}).encode(),
        status=401,
        x_echo=f"Bearer {SECRET}",
    )

    answer = client.post("/v1/chat/completions", json=CHAT)

    assert answer.status_code == 401
    assert SECRET not in answer.text + str(answer.headers)
    assert answer.json()["error"]["message"] == "bad key ********"


def test_an_error_that_comes_as_events_is_searched_for_the_credential_too(client, echo):
    """Whatever its type is."""
    echo.tell(
        b'data: {"error":{"message":"bad key %b"}}\n\n' % SECRET.encode(),
        status=401,
        content_type="text/event-stream",
    )

    answer = client.post("/v1/chat/completions", json={**CHAT, "stream": True})

    assert (answer.status_code, answer.headers["content-type"]) == (401, "text/event-stream")
    assert answer.text == 'data: {"error":{"message":"bad key ********"}}\n\n'


def test_what_a_provider_says_of_its_connection_stays_there(client, echo):
    """Headers that it names as belonging to that connection, and no others."""
    echo.tell(b"{}", connection="X-Hop, keep-alive", x_hop="1", x_stays="2")

    answer = client.post("/v1/chat/completions", json=CHAT)

    assert "x-hop" not in answer.headers
    assert answer.headers["x-stays"] == "2"


@pytest.mark.parametrize("path", ["/v1/realtime?model=m", "/api/providers/openai/v1/realtime"])
def test_a_websocket_is_refused_clearly(client, echo, path):
    """Not passed on as a request that it is not, nor the credential that browsers put there."""
    answer = client.get(
        path,
        headers={
            "connection": "Upgrade",
            "upgrade": "websocket",
            "sec-websocket-protocol": "realtime, openai-insecure-api-key.sk-all",
        },
    )

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "websockets_not_served")
    assert not echo.heard
    assert client.get("/v1/files", headers={"upgrade": "h2c"}).status_code == 200


@pytest.mark.parametrize(("status", "method"), [(204, "DELETE"), (304, "GET"), (200, "HEAD")])
def test_answers_without_a_body_stay_without_one(client, echo, status, method):
    """And a HEAD tells the length that a GET would have."""
    echo.tell(b"12345", status=status, etag='"x"')

    answer = client.request(method, "/v1/files/f-1")

    assert (answer.status_code, answer.content) == (status, b"")
    assert answer.headers["etag"] == '"x"'
    assert answer.headers.get("content-length") == ("5" if method == "HEAD" else None)


def test_the_plain_root_goes_by_the_model(client, echo, settings):
    """Its vendor's setting where the name tells, the one that is named, the first otherwise."""
    hosts = []
    for model, sent in [
        ("gpt-4o", "gpt-4o"),
        ("claude-sonnet-4-5", "claude-sonnet-4-5"),
        ("mistral/any", "any"),
        ("openrouter/meta/llama", "meta/llama"),
        ("nobody/llama", "nobody/llama"),
    ]:
        echo.heard.clear()
        body = json.dumps({"n": 1, "model": model, "messages": []}).encode()
        assert client.post("/v1/chat/completions", content=body).status_code == 200
        (heard,) = echo.heard
        # But for its model the body is the client's own.
        assert heard.body == body.replace(model.encode(), sent.encode())
        hosts.append(heard.target)
    assert len(hosts) == 5


def test_a_model_that_two_readers_would_read_differently_is_not_rewritten(client, echo):
    """400 instead of a guess at which of the two the provider takes."""
    body = b'{"model":"mistral/a","mod\\u0065l":"mistral/b","messages":[]}'

    answer = client.post("/v1/chat/completions", content=body)

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_model")
    assert not echo.heard


OPENAI_WANTED = " wants a provider setting of openai, or of another with its API; the key's, of "


@pytest.mark.parametrize(
    ("provider", "path", "status", "message"),
    [
        (
            "openai",
            "/v1/messages",
            400,
            "/v1/messages wants a provider setting of anthropic;"
            " the key's, of openai, serve /v1/chat/completions",
        ),
        (
            "anthropic",
            "/v1/embeddings",
            400,
            f"/v1/embeddings{OPENAI_WANTED}anthropic, serve /v1/messages",
        ),
        (
            "anthropic",
            "/v1/chat/completions",
            400,
            f"/v1/chat/completions of this model{OPENAI_WANTED}anthropic, serve /v1/messages",
        ),
        (
            "of-mine",
            "/v1/chat/completions",
            400,
            f"/v1/chat/completions of this model{OPENAI_WANTED}of-mine,"
            " serve /api/custom/providers/of-mine",
        ),
        ("anthropic", "/v1/nothing", 404, "route not supported"),
        ("of-mine", "/v1/nothing", 404, "route not supported"),
        (
            "openai",
            "/api/providers/anthropic/v1/messages",
            401,
            "the key has no provider setting for this path",
        ),
    ],
)
def test_another_dialect_is_not_translated(
    gateway, echo, settings, of_mine, provider, path, status, message
):
    """400 that names what would serve it; 404 where no vendor is known to have such a path."""
    key = f"sk-only-{provider}-{path}"
    gateway.key(key, {"of-mine": of_mine, **settings}[provider])
    echo.heard.clear()

    url, headers = f"{gateway.proxy_url}{path}", {"x-api-key": key}
    answer = loopback.post(url, json={"model": "m"}, headers=headers)

    assert (answer.status_code, answer.json()["error"]["message"]) == (status, message)
    assert not echo.heard
    if status == 404:
        without_model = [
            loopback.post(url, json={}, headers=headers),
            loopback.get(url, headers=headers),
        ]
        assert [one.status_code for one in without_model] == [404, 404]


def test_chats_that_are_listed_name_no_model(gateway, settings):
    """Nor does the refusal of a key whose provider keeps none."""
    gateway.key("sk-lists-chats", settings["anthropic"])

    answer = loopback.get(
        f"{gateway.proxy_url}/v1/chat/completions", headers={"x-api-key": "sk-lists-chats"}
    )

    message = f"/v1/chat/completions{OPENAI_WANTED}anthropic, serve /v1/messages"
    assert (answer.status_code, answer.json()["error"]["message"]) == (400, message)


def test_a_key_with_a_list_of_models_cannot_hide_one(gateway, echo, settings):
    """Not in a body that nobody can read, not behind a path whose price nobody knows."""
    gateway.key("sk-listed", settings["openai"], allowedModels=["gpt-4o"])
    gateway.key(
        "sk-trusted", settings["openai"], allowedModels=["gpt-4o"], allowUnmeteredPaths=True
    )
    echo.tell(b"{}")

    def post(key: str, path: str, body: bytes) -> tuple[int, str]:
        answer = loopback.post(
            f"{gateway.proxy_url}/v1{path}", content=body, headers={"x-api-key": key}
        )
        return answer.status_code, answer.json().get("error", {}).get("code", "")

    hidden = (403, "model_not_allowed")
    assert post("sk-listed", "/responses", b'{"model":"o1"}') == hidden
    assert post("sk-listed", "/responses", b"\x1f\x8bzipped") == hidden
    assert post("sk-listed", "/responses", b'{"model":["o1"]}') == hidden
    assert post("sk-listed", "/responses", b"[]") == hidden
    assert post("sk-listed", "/responses", b'{"model":"gpt-4o"}') == (200, "")
    assert post("sk-listed", "/batches", b'{"input_file_id":"f"}') == (403, "path_not_allowed")
    assert post("sk-listed", "/next/thing", b'{"model":"gpt-4o"}') == (403, "path_not_allowed")
    assert post("sk-trusted", "/batches", b'{"input_file_id":"f"}') == (200, "")
    assert post("sk-trusted", "/next/thing", b'{"model":"o1"}') == hidden


KEYS = itertools.count()
TOOL = b'{"model":"gpt-4o","tools":[{"type":"image_generation","model":"%b"}]}'
SESSION = b'{"session":{"type":"realtime","model":"%b"}}'


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/responses", TOOL),
        ("/responses", b'{"model":"gpt-4o","tools":[{"m\\u006fdel":"%b"}]}'),
        ("/chat/completions", b'{"model":"gpt-4o","messages":[],"models":["%b"]}'),
        ("/chat/completions", b'{"model":"gpt-4o","fallbacks":[{"model":"%b"}]}'),
        ("/realtime/client_secrets", SESSION),
        ("/realtime/client_secrets", b'{"model":"gpt-4o",' + SESSION[1:]),
        ("/realtime/calls", SESSION),
        (
            "/realtime/client_secrets",
            b'{"session":{"audio":{"input":{"transcription":{"model":"%b"}}}}}',
        ),
        ("/realtime/transcription_sessions", b'{"input_audio_transcription":{"model":"%b"}}'),
        ("/realtime/sessions", b'{"model":"%b"}'),
        ("/evals/e/runs", b'{"data_source":{"model":"%b"}}'),
        ("/evals", b'{"testing_criteria":[{"model":"%b"}]}'),
        ("/messages", b'{"model":"gpt-4o","tools":[{"type":"advisor","model":"%b"}]}'),
        (
            "/messages/batches",
            b'{"requests":[{"params":{"model":"gpt-4o"}},{"params":{"model":"%b"}}]}',
        ),
    ],
)
def test_models_that_are_named_beside_the_model_must_be_allowed_too(
    gateway, echo, settings, path, body
):
    """Of tools, of whom to ask instead, of sessions, of batches: by key and by setting."""
    provider = "anthropic" if path.startswith("/messages") else "openai"
    url = f"{gateway.proxy_url}/api/providers/{provider}/v1{path}"
    listed = gateway.setting(echo.url, provider=provider, allowedModels=["gpt-4o", "gpt-image-1"])
    allowed = {"allowedModels": ["gpt-4o", "gpt-image-1"], "allowUnmeteredPaths": True}
    by_key, by_setting = (f"sk-{next(KEYS)}" for _ in range(2))
    gateway.key(by_key, settings[provider], **allowed)
    gateway.key(by_setting, listed)
    echo.tell(b"{}")
    for key in (by_key, by_setting):
        echo.heard.clear()
        refused = loopback.post(url, content=body % b"o1", headers={"x-api-key": key})
        assert (refused.status_code, len(echo.heard)) == (403, 0)
        assert "model" in refused.json()["error"]["message"]
        served = loopback.post(url, content=body % b"gpt-image-1", headers={"x-api-key": key})
        assert (served.status_code, len(echo.heard)) == (200, 1)
        assert echo.heard[0].body == body % b"gpt-image-1"


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"gpt-4o","models":"o1"}',
        b'{"model":"gpt-4o","models":[1]}',
        b'{"model":"gpt-4o","tools":{"model":"o1"}}',
        b'{"model":"gpt-4o","tools":[{"model":["o1"]}]}',
    ],
)
def test_a_model_that_is_named_in_an_unknown_way_is_not_allowed(gateway, echo, settings, body):
    """Nobody could say which it is."""
    listed, free = (f"sk-{next(KEYS)}" for _ in range(2))
    gateway.key(listed, settings["openai"], allowedModels=["gpt-4o"])
    gateway.key(free, settings["openai"])
    url = f"{gateway.proxy_url}/v1/responses"
    echo.tell(b"{}")

    assert loopback.post(url, content=body, headers={"x-api-key": listed}).status_code == 403
    assert loopback.post(url, content=body, headers={"x-api-key": free}).status_code == 200


@pytest.mark.parametrize("tools", [b"null", b"[]", b'[{"name":"f","parameters":{"model":{}}}]'])
def test_texts_and_parameters_called_model_are_no_models(gateway, echo, settings, tools):
    """What a tool takes, what somebody says."""
    key = f"sk-{next(KEYS)}"
    gateway.key(key, settings["openai"], allowedModels=["gpt-4o"])
    echo.tell(b"{}")
    body = b'{"model":"gpt-4o","models":null,"tools":%b,"input":[{"x":{"model":"o1"}}]}' % tools
    url = f"{gateway.proxy_url}/v1/responses"

    answer = loopback.post(url, content=body, headers={"x-api-key": key})

    assert answer.status_code == 200


def test_a_key_with_a_budget_asks_for_nothing_in_the_background(gateway, echo, settings):
    """The answer comes before the work, so that nobody would see what it costs."""
    gateway.key("sk-budget", settings["openai"], costLimitInUsd=1)
    gateway.key("sk-open", settings["openai"], costLimitInUsd=1, allowUnmeteredPaths=True)
    url = f"{gateway.proxy_url}/v1/responses"
    echo.tell(b"{}")

    def ask(key: str, background: bytes) -> int:
        body = b'{"model":"gpt-4o","background":%b}' % background
        return loopback.post(url, content=body, headers={"x-api-key": key}).status_code

    assert ask("sk-budget", b"true") == 403
    assert ask("sk-budget", b"false") == 200
    assert ask("sk-open", b"true") == 200


def test_statistics_want_a_key_or_the_admin(gateway, client):
    """Totals and use by model and provider, of all workers."""
    assert loopback.get(f"{gateway.proxy_url}/stats").status_code == 401
    assert loopback.get(f"{gateway.proxy_url}/stats?key=sk-nobody").status_code == 401
    client.post("/v1/chat/completions", json={**CHAT, "model": "counted-once"})

    def shown() -> dict:
        return client.get("/stats").json()

    gateway.wait_until(lambda: "counted-once" in shown()["modelUsage"])
    stats = shown()
    assert stats["modelUsage"]["counted-once"] == {"requests": 1, "failures": 0}
    assert stats["providerUsage"]["openai"]["requests"] >= 1
    assert (stats["status"], stats["port"]) == ("running", gateway.proxy_port)
    assert stats["successRequests"] <= stats["totalRequests"]


def test_health_is_plain(client):
    """For load balancers, and as BricksLLM says it."""
    assert (client.get("/health").text, client.get("/api/health").text) == ("OK", "")
