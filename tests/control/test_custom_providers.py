"""Custom providers as operators manage them over 8001."""

import asyncio

import httpx
import pytest
from support import loopback
from support.programs import Gateway

from gateway.administration.custom_providers import (
    NAME_BYTES_MAX,
    ROUTE_CONFIGS_MAX,
    check,
)
from gateway.administration.custom_providers_wire import NewCustomProvider, NewRouteConfig
from gateway.administration.invalid import Invalid
from gateway.providers.registry import PROVIDERS

PATH = "/api/custom/providers"
CONFIG = {
    "path": "/chat",
    "target_url": "https://8.8.8.8/v2/chat?version=2",
    "model_location": "model",
    "request_prompt_location": "messages.#.content",
    "response_completion_location": "choices.#.message.content",
    "stream_location": "stream",
    "stream_end_word": "[DONE] 😀 'quoted\", {braced}",
    "stream_response_completion_location": "choices.#.delta.content",
    "stream_max_empty_messages": 10,
}
LEAST = {
    "path": "/least",
    "target_url": "https://8.8.8.8/least",
    "model_location": "model",
    "request_prompt_location": "prompt",
    "response_completion_location": "completion",
}
LEAST_SHOWN = LEAST | {
    "stream_location": "",
    "stream_end_word": "",
    "stream_response_completion_location": "",
    "stream_max_empty_messages": 0,
}


@pytest.fixture(scope="module")
def api(gateway: Gateway):
    """A client of the admin API."""
    with loopback.Client(base_url=gateway.admin_url) as client:
        yield client


def create(api: httpx.Client, name: str, **members: object) -> dict[str, object]:
    answer = api.post(PATH, json={"provider": name, "route_configs": [CONFIG], **members})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def problem(answer: httpx.Response) -> tuple[object, ...]:
    told = answer.json()
    assert list(told) == ["type", "title", "status", "detail", "instance"]
    assert told["status"] == answer.status_code
    return tuple(told.values())


def invalid(detail: str, instance: str = "/api/providers") -> tuple[object, ...]:
    return ("/errors/validation", "custom provider validation failed", 400, detail, instance)


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_created_provider_is_shown_with_every_field(api, method):
    """Name and authentication parameter are lower-cased, all else is as it was sent."""
    answer = api.request(
        method,
        PATH,
        json={
            "Provider": f"Acme-{method}",
            "route_configs": [CONFIG, LEAST],
            "authentication_param": "ApiKey",
            "id": "mine",
            "created_at": 1,
        },
    )

    shown = answer.json()
    assert answer.status_code == 200
    assert list(shown) == [
        "id",
        "created_at",
        "updated_at",
        "provider",
        "route_configs",
        "authentication_param",
    ]
    assert shown["provider"] == f"acme-{method.lower()}"
    assert shown["route_configs"] == [CONFIG, LEAST_SHOWN]
    assert shown["authentication_param"] == "apikey"
    assert shown["id"] != "mine"
    assert shown["created_at"] > 1_700_000_000
    assert shown in api.get(PATH).json()
    assert api.get(f"{PATH}/{shown['id']}").json() == shown


def test_a_name_is_taken_once_in_any_case(api):
    """The original's 500 is a 400 with its words."""
    create(api, "twice")

    refused = api.post(PATH, json={"provider": "TWICE", "route_configs": [CONFIG]})

    assert problem(refused) == (
        "/errors/custom-provider-manager",
        "creating a custom provider error",
        400,
        "provider must be unique",
        "/api/providers",
    )


def test_a_patch_merges_by_path_and_keeps_the_order(api):
    """Members that are not empty win, new paths come last, and the rest stays."""
    created = create(api, "merged", authentication_param="token")
    added = LEAST | {"path": "/added"}

    answer = api.patch(
        f"{PATH}/{created['id']}",
        json={"route_configs": [added, {"path": "/chat", "model_location": "m", "x": 1}]},
    )

    assert answer.status_code == 200, answer.text
    assert answer.json() == created | {
        "route_configs": [CONFIG | {"model_location": "m"}, LEAST_SHOWN | {"path": "/added"}],
        "updated_at": answer.json()["updated_at"],
    }
    assert (
        api.patch(f"{PATH}/{created['id']}", json={"authentication_param": ""}).json()[
            "authentication_param"
        ]
        == ""
    )


def test_a_patch_is_checked_as_a_whole(api):
    """A new path needs what is required, a stream what it needs, a location its syntax."""
    created = create(api, "checked", route_configs=[LEAST])
    where = f"{PATH}/{created['id']}"
    of_one = "/api/providers/:id"

    def patched(*configs: dict[str, object]) -> tuple[object, ...]:
        return problem(api.patch(where, json={"route_configs": list(configs)}))

    assert patched({"path": "/new", "model_location": "m"}) == invalid(
        "empty fields in provider: route_configs.[0].target_url,"
        "route_configs.[0].request_prompt_location,"
        "route_configs.[0].response_completion_location",
        of_one,
    )
    assert patched({"path": "/least", "stream_location": "stream"}) == invalid(
        "empty fields in provider: route_configs.[0].stream_end_word,"
        "route_configs.[0].stream_response_completion_location",
        of_one,
    )
    assert patched({"path": "/least", "model_location": "@this"})[3] == (
        "route_configs.[0].model_location: '@' (a modifier) is not supported"
    )
    assert patched(LEAST, LEAST)[3] == "route configs cannot contain duplicated paths"
    assert patched({"path": "/least", "target_url": "ftp://8.8.8.8/"})[3].startswith(
        "route_configs.[0].target_url: "
    )
    assert api.get(where).json() == created


def test_unknown_ids_are_told_from_broken_requests(api):
    """404 for get, patch and delete alike."""
    for method in ("GET", "PATCH", "DELETE"):
        answer = api.request(method, f"{PATH}/no-such", json={} if method == "PATCH" else None)

        assert problem(answer) == (
            "/errors/not-found",
            "custom provider is not found",
            404,
            "custom provider is not found for id: no-such",
            "/api/providers/:id",
        )


def test_a_deleted_provider_is_gone_and_its_name_free(api):
    """At once."""
    created = create(api, "gone")

    answer = api.delete(f"{PATH}/{created['id']}")

    assert (answer.status_code, answer.content) == (200, b"")
    assert api.get(f"{PATH}/{created['id']}").status_code == 404
    create(api, "gone")


def test_a_provider_in_use_is_deleted_only_by_force(api, gateway):
    """While provider settings have its name."""
    created = create(api, "used")
    setting = gateway.setting("http://127.0.0.1:9", provider="used")
    where = f"{PATH}/{created['id']}"

    assert problem(api.delete(where)) == invalid(
        "1 provider settings use provider used; delete them first or add force=true",
        "/api/providers/:id",
    )
    assert api.get(where).status_code == 200
    assert api.delete(where, params={"force": "true"}).status_code == 200
    assert api.get(where).status_code == 404
    assert [one["id"] for one in api.get("/api/provider-settings", params={"ids": setting}).json()]


def test_an_upstream_that_must_not_be_called_is_refused_before_it_is_stored(api, gateway):
    """Tollway's own ports, whatever private addresses are allowed."""
    config = CONFIG | {"target_url": f"{gateway.admin_url}/api/health"}

    refused = api.post(PATH, json={"provider": "own", "route_configs": [config]})

    assert refused.status_code == 400
    assert "Tollway itself" in refused.json()["detail"]


@pytest.mark.parametrize("text", ["a\0b", "\0"])
def test_nul_is_a_bad_request_everywhere(api, text):
    """The database cannot hold it."""
    bodies = [
        {"provider": f"nul{text}", "route_configs": [CONFIG]},
        {"provider": "nul", "route_configs": [CONFIG], "authentication_param": text},
        *(
            {"provider": "nul", "route_configs": [CONFIG | {field: f"/{text}"}]}
            for field, value in CONFIG.items()
            if isinstance(value, str)
        ),
    ]
    for body in bodies:
        assert api.post(PATH, json=body).status_code == 400, body


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{", b'{"provider":1}', b'{"route_configs":[1]}', b'{"provider":"\\ud800"}'],
)
def test_a_body_of_another_shape_is_told_so(api, body):
    """400 with the original's type."""
    assert problem(api.post(PATH, content=body))[:3] == (
        "/errors/json-unmarshal",
        "json unmarshaller error",
        400,
    )


async def _allow(url: str) -> None:
    if "refused" in url:
        raise Invalid("no")


def refusal(new: NewCustomProvider) -> str:
    with pytest.raises(Invalid) as refused:
        asyncio.run(check(new, _allow))
    return str(refused.value)


def config(**changes: object) -> NewRouteConfig:
    return NewRouteConfig(**(CONFIG | changes))


@pytest.mark.parametrize(
    "name", ["openai", "OpenAI", "anthropic", "azure", "deepinfra", "vllm", "bedrock", *PROVIDERS]
)
def test_names_of_built_in_providers_are_reserved(name):
    """In any case."""
    assert refusal(NewCustomProvider(name, [config()])) == (
        "provider cannot be named openai or anthropic"
    )


@pytest.mark.parametrize(
    ("new", "message"),
    [
        (NewCustomProvider("a b", []), "provider cannot contain white space"),
        (NewCustomProvider("a/b", []), "provider cannot contain any of / ? # %"),
        (
            NewCustomProvider("İ" * (NAME_BYTES_MAX // 2), []),
            f"provider must not be longer than {NAME_BYTES_MAX} bytes",
        ),
        (
            NewCustomProvider("a", [config(path="/a b", target_url="")]),
            "route configs path cannot contain white space",
        ),
        (NewCustomProvider("a", [config(path="")]), 'route configs path must start with "/"'),
        (NewCustomProvider("a", [config(path="chat")]), 'route configs path must start with "/"'),
        (
            NewCustomProvider("a", [config(), config()]),
            "route configs cannot contain duplicated paths",
        ),
        (
            NewCustomProvider("", None, "a b"),
            "authentication_param cannot contain white space",
        ),
        (NewCustomProvider(), "empty fields in provider: provider,route_configs"),
        (
            NewCustomProvider("a", [config(), NewRouteConfig("/b", stream_location="s")]),
            "empty fields in provider: route_configs.[1].stream_end_word,"
            "route_configs.[1].stream_response_completion_location,"
            "route_configs.[1].target_url,route_configs.[1].model_location,"
            "route_configs.[1].request_prompt_location,"
            "route_configs.[1].response_completion_location",
        ),
        (
            NewCustomProvider("a", [config(stream_location="#(a==1)")]),
            "route_configs.[0].stream_location:"
            " '#' (a query) is not supported but as a part of its own",
        ),
        (
            NewCustomProvider("a", [config(target_url="https://refused")]),
            "route_configs.[0].target_url: no",
        ),
        (
            NewCustomProvider("a", [config(target_url="https://a.example/é")]),
            "route_configs.[0].target_url: path and query must be written in ASCII",
        ),
        (
            NewCustomProvider("a", [config(target_url="https://a.example/#a")]),
            "route_configs.[0].target_url: a fragment is never sent; leave it out",
        ),
        (
            NewCustomProvider("a", [config(stream_max_empty_messages=-1)]),
            "route_configs.[0].stream_max_empty_messages is out of range",
        ),
        (
            NewCustomProvider(
                "a", [config(path=f"/{number}") for number in range(ROUTE_CONFIGS_MAX + 1)]
            ),
            f"route_configs must not be more than {ROUTE_CONFIGS_MAX}",
        ),
    ],
)
def test_each_mistake_has_its_message(new, message):
    """In the original's order and words, where it has any."""
    assert refusal(new) == message
