"""Lists of models: what this key may use, in the shape that was asked for."""

import json

import httpx
import pytest
from support import loopback
from support.echo_provider import EchoProvider
from support.programs import Gateway
from support.workers import until_in_force

LISTED = {
    "object": "list",
    "data": [
        {"id": "gpt-4o", "object": "model", "created": 1715367049, "owned_by": "system"},
        {"id": "o3", "object": "model", "created": None},
        {"id": 7},
    ],
}


@pytest.fixture(scope="module")
def key(gateway: Gateway, echo: EchoProvider) -> str:
    """A key whose setting allows every model."""
    echo.tell(json.dumps(LISTED).encode())
    gateway.key("sk-models", gateway.setting(echo.url))
    return "sk-models"


def get(gateway: Gateway, key: str, path: str = "", **headers: str) -> httpx.Response:
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return loopback.get(
        f"{gateway.proxy_url}/v1/models{path}", headers={"x-api-key": key, **headers}
    )


def ids(answer: httpx.Response) -> list[str]:
    return [model["id"] for model in answer.json()["data"]]


def test_the_provider_s_list_is_asked_for_once(gateway, echo, key):
    """And kept for a while; what is no model is left out."""
    echo.heard.clear()
    first, second = get(gateway, key), get(gateway, key)

    assert first.json() == second.json()
    assert ids(first) == ["gpt-4o", "o3"]
    assert first.json()["data"][1] == {
        "id": "o3",
        "object": "model",
        "created": 0,
        "owned_by": "openai",
    }
    assert [heard.target for heard in echo.heard] in ([], ["/v1/models"])


def test_one_model_is_shown_or_not_found(gateway, key):
    """404 with the parameter's name for one that the key may not use."""
    found, missing = get(gateway, key, "/gpt-4o"), get(gateway, key, "/gpt-5")

    assert found.json() == LISTED["data"][0]
    assert missing.status_code == 404
    error = missing.json()["error"]
    assert (error["code"], error["param"]) == ("model_not_found", "model")


def test_anthropic_s_clients_get_anthropic_s_shape(gateway, key):
    """Told by their version header."""
    shown = get(gateway, key, anthropic_version="2023-06-01").json()
    missing = get(gateway, key, "/none", anthropic_version="2023-06-01").json()

    assert shown["data"][0] == {
        "type": "model",
        "id": "gpt-4o",
        "display_name": "gpt-4o",
        "created_at": "2024-05-10T18:50:49Z",
    }
    assert (shown["has_more"], shown["last_id"]) == (False, "o3")
    assert missing["error"]["type"] == "not_found_error"


def test_lists_of_the_key_and_of_its_settings_are_what_is_shown(gateway, echo, key):
    """Both must allow a model; no provider is asked."""
    setting = gateway.setting(echo.url, allowedModels=["a/b", "c", "d"])
    gateway.key("sk-two-lists", setting, allowedModels=["c", "a/b", "e"])
    gateway.key("sk-key-list", gateway.setting(echo.url), allowedModels=["x"])
    echo.heard.clear()

    assert ids(get(gateway, "sk-two-lists")) == ["a/b", "c"]
    assert get(gateway, "sk-two-lists", "/a/b").json()["id"] == "a/b"
    assert get(gateway, "sk-two-lists", "/a%2Fb").json()["id"] == "a/b"
    assert get(gateway, "sk-two-lists", "/d").status_code == 404
    assert ids(get(gateway, "sk-key-list")) == ["x"]
    assert not echo.heard


def test_an_alias_is_listed_and_goes_up_as_what_it_stands_for(gateway, module_postgres, echo, key):
    """Exact ones; a pattern works, but is no name to list."""
    for alias, model in (("fast", "gpt-4o"), ("old-*", "openai/o3")):
        made = loopback.put(
            f"{gateway.admin_url}/api/model-aliases", json={"alias": alias, "model": model}
        )
        assert made.status_code == 200, made.text

    until_in_force(gateway, module_postgres.url)
    assert "fast" in ids(get(gateway, key))
    assert get(gateway, key, "/fast").json()["owned_by"] == "alias"
    assert "old-*" not in ids(get(gateway, key))
    for asked, sent in (("fast", b"gpt-4o"), ("old-faithful", b"o3")):
        echo.heard.clear()
        loopback.post(
            f"{gateway.proxy_url}/v1/chat/completions",
            json={"model": asked, "messages": []},
            headers={"x-api-key": key},
        )
        assert b'"model":"%b"' % sent in echo.heard[0].body


def test_a_key_may_be_allowed_an_alias_or_what_it_stands_for(gateway, echo, key):
    """And nothing else through one."""
    gateway.key("sk-alias", gateway.setting(echo.url), allowedModels=["fast"])
    gateway.key("sk-real", gateway.setting(echo.url), allowedModels=["gpt-4o"])
    gateway.key("sk-other", gateway.setting(echo.url), allowedModels=["o3"])

    def ask(key: str) -> int:
        return loopback.post(
            f"{gateway.proxy_url}/v1/chat/completions",
            json={"model": "fast", "messages": []},
            headers={"x-api-key": key},
        ).status_code

    assert [ask("sk-alias"), ask("sk-real"), ask("sk-other")] == [200, 200, 403]


def test_no_list_to_be_had_is_no_empty_list(gateway):
    """502 when every provider fails to say."""
    gateway.key("sk-dead", gateway.setting("http://127.0.0.1:9"))

    answer = get(gateway, "sk-dead")

    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_unavailable")
