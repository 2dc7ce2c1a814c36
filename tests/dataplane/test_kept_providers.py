"""Bedrock: its settings are kept, and every way that would lead there ends in a clear error."""

from collections.abc import Iterator

import httpx
import pytest
from support import loopback
from support.echo_provider import EchoProvider
from support.events import completed
from support.programs import Gateway
from support.stores import NatsServer

CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
MESSAGE = {"model": "anthropic.claude-3-haiku-20240307-v1:0", "max_tokens": 9, **CHAT}
AWS = {
    "awsAccessKeyId": "AKIA-not-a-key",
    "awsSecretAccessKey": "aws-secret-0123456789",
    "awsRegion": "eu-central-1",
}
OWN = "/api/providers/bedrock/anthropic/v1"
WHY = "settings of bedrock are kept, but bedrock cannot be called through this gateway"


@pytest.fixture(scope="module")
def bedrock(gateway: Gateway) -> str:
    """A setting of Bedrock."""
    return gateway.setting("", provider="bedrock", setting=AWS)


@pytest.fixture(scope="module")
def client(gateway: Gateway, bedrock: str) -> Iterator[httpx.Client]:
    """Calls the data plane with a key that has this setting alone."""
    gateway.key("sk-bedrock", bedrock)
    headers = {"authorization": "Bearer sk-bedrock"}
    with loopback.Client(base_url=gateway.proxy_url, headers=headers) as client:
        yield client


@pytest.fixture(scope="module")
def both(gateway: Gateway, bedrock: str, echo: EchoProvider) -> str:
    """A key that has a setting of OpenAI as well, which comes second."""
    gateway.key("sk-both", bedrock, settingIds=[bedrock, gateway.setting(echo.url)])
    return "sk-both"


@pytest.mark.parametrize("body", [MESSAGE, {**MESSAGE, "stream": True}, {**MESSAGE, "model": "x"}])
@pytest.mark.parametrize("path", [f"{OWN}/messages", f"{OWN}/complete", "/v1/messages"])
def test_anthropic_s_shape_where_the_path_is_anthropic_s(client, path, body):
    """Under its own prefix and under the plain root."""
    answer = client.post(path, json=body)

    shown = answer.json()
    assert (answer.status_code, shown["type"]) == (400, "error")
    assert shown["error"] == {"type": "invalid_request_error", "message": WHY}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/embeddings", "/v1/responses"])
def test_openai_s_shape_where_the_path_is_openai_s(client, path):
    """No other path is told, for none leads there."""
    answer = client.post(path, json={**CHAT, "input": "hi"})

    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "unsupported_provider")
    assert (error["type"], error["message"]) == ("invalid_request_error", WHY)


def test_paths_below_its_prefix_that_no_api_has_are_refused_alike(client):
    """A path of Anthropic's that is not known, and one that was never Bedrock's."""
    for path in ("whatever", "messages/count_tokens"):
        answer = client.post(f"{OWN}/{path}", json=MESSAGE)
        assert (answer.status_code, answer.json()["error"]["message"]) == (400, WHY)
    for path in ("/api/providers/bedrock/v1/messages", "/api/providers/bedrock/anthropic"):
        assert client.post(path, json=MESSAGE).status_code == 404


def test_a_key_is_wanted_first_and_then_a_setting(client, both, gateway, echo):
    """Nobody learns by the error what a key has; without a setting it is as with any provider."""
    gateway.key("sk-openai-alone", gateway.setting(echo.url))
    statuses = [
        client.post(f"{OWN}/messages", json=MESSAGE, headers={"authorization": f"Bearer {key}"})
        for key in ("sk-nobody", "sk-openai-alone", both)
    ]
    assert [answer.status_code for answer in statuses] == [401, 401, 400]


def test_the_refusal_is_on_record(client, bus: NatsServer):
    """As every refusal of a known key."""
    client.post(f"{OWN}/messages", json=MESSAGE, headers={"x-custom-event-id": "to-bedrock"})

    event = completed(bus, "to-bedrock")
    assert (event.outcome, event.status, event.error) == (
        "refused",
        400,
        "unsupported_provider",
    )
    assert event.call.path_template == f"{OWN}/messages"


def test_a_model_of_bedrock_is_refused_by_name_and_by_alias(gateway, bedrock, both, echo):
    """`provider/model` and an alias that prefers the setting want this setting, and no other."""
    alias = {"alias": "cloud", "model": "anthropic.claude-v2", "settingId": bedrock}
    made = loopback.put(f"{gateway.admin_url}/api/model-aliases", json=alias)
    assert made.status_code == 200, made.text

    def ask(model: str) -> httpx.Response:
        return loopback.post(
            f"{gateway.proxy_url}/v1/chat/completions",
            json={**CHAT, "model": model},
            headers={"x-api-key": both},
        )

    gateway.wait_until(lambda: ask("cloud").status_code == 400)
    echo.heard.clear()
    for model in ("cloud", "bedrock/anthropic.claude-v2"):
        assert ask(model).json()["error"]["code"] == "unsupported_provider"
    assert not echo.heard


@pytest.mark.parametrize("balancing", ["first", "random", "weighted", "least_busy", "sticky"])
def test_a_setting_that_can_be_called_gets_every_call(gateway, bedrock, echo, balancing):
    """Whatever the balancing, its weight and its priority."""
    first = gateway.setting(
        "", provider="bedrock", setting=AWS, weight=1000, allowedModels=["gpt-4o"]
    )
    key = f"sk-{balancing}"
    gateway.key(
        key, first, settingIds=[first, bedrock, gateway.setting(echo.url)], balancing=balancing
    )
    echo.tell(b"{}")
    echo.heard.clear()

    for _ in range(5):
        answer = loopback.post(
            f"{gateway.proxy_url}/v1/chat/completions", json=CHAT, headers={"x-api-key": key}
        )
        assert answer.status_code == 200, answer.text
    assert len(echo.heard) == 5


def test_no_model_is_listed_that_cannot_be_called(gateway, client, bedrock, echo):
    """Not those that the setting or the key allows, nor aliases for it."""
    echo.tell(b'{"data":[{"id":"gpt-4o"}]}')
    listed = gateway.setting("", provider="bedrock", setting=AWS, allowedModels=["claude"])
    gateway.key("sk-list", listed, settingIds=[listed, gateway.setting(echo.url)])
    gateway.key("sk-own-list", bedrock, allowedModels=["m"])

    def shown(key: str) -> list[str]:
        answer = loopback.get(f"{gateway.proxy_url}/v1/models", headers={"x-api-key": key})
        assert answer.status_code == 200, answer.text
        return [model["id"] for model in answer.json()["data"]]

    assert (shown("sk-list"), shown("sk-own-list")) == (["gpt-4o"], [])
    assert client.get("/v1/models").json() == {"object": "list", "data": []}


def test_no_step_of_a_route_goes_there(gateway, bedrock, both):
    """Refused when the route is made: there is no call that it could serve."""
    found = gateway.key("sk-route", bedrock)
    answer = loopback.post(
        f"{gateway.admin_url}/api/routes",
        json={
            "name": "r",
            "path": "/bedrock",
            "keyIds": [found["keyId"]],
            "steps": [{"provider": "bedrock", "model": "anthropic.claude-v2"}],
            "cacheConfig": {"enabled": False},
        },
    )

    assert answer.status_code == 400
    assert answer.json()["type"] == "/errors/route-manager"
    assert answer.json()["detail"].startswith("steps.[0].provider is not supported. Only ")
    assert "bedrock" not in answer.json()["detail"]


def test_nothing_of_it_is_in_the_log(gateway, client):
    """A kept setting is no broken one, and its secrets are nowhere."""
    client.post(f"{OWN}/messages", json=MESSAGE)

    text = gateway.log.read_text()
    assert "setting_unusable" not in text
    assert AWS["awsSecretAccessKey"] not in text
    assert AWS["awsAccessKeyId"] not in text
