"""Routes as operators manage them over 8001."""

import json

import asyncpg
import httpx
import pytest
from support import loopback
from support.programs import Gateway
from support.servers import run_apart

from contracts.config.routes import Route, RouteStep, is_embedding_model
from gateway.administration.invalid import Invalid
from gateway.administration.route_rules import (
    PARAMS_BYTES_MAX,
    PATH_BYTES_MAX,
    RETRIES_MAX,
    STEPS_MAX,
    check,
)
from gateway.administration.routes_wire import CacheConfigWire, NewRoute, StepWire

PATH = "/api/routes"
STEP = {"provider": "openai", "model": "gpt-4o"}
UNCOVERED = (
    "provider settings assosciated with the key cannot for accessing models specified in the route"
)
DIALECTS = {
    "openai": frozenset({"openai"}),
    "azure": frozenset({"openai"}),
    "both": frozenset({"openai", "anthropic"}),
    "claude": frozenset({"anthropic"}),
}


@pytest.fixture(scope="module")
def api(gateway: Gateway):
    """A client of the admin API."""
    with loopback.Client(base_url=gateway.admin_url) as client:
        yield client


@pytest.fixture(scope="module")
def key_id(gateway: Gateway) -> str:
    """A key with a setting for OpenAI."""
    setting = gateway.setting("http://127.0.0.1:9")
    return str(gateway.key("sk-routes-0123456789", setting)["keyId"])


@pytest.fixture
def path(request: pytest.FixtureRequest) -> str:
    """A path of the test's own."""
    return f"/{request.node.name}"


def body(path: str, key_id: str, **members: object) -> dict[str, object]:
    return {
        "name": "a route",
        "path": path,
        "keyIds": [key_id],
        "steps": [STEP],
        "cacheConfig": {"enabled": False},
        **members,
    }


def create(api: httpx.Client, *args: str, **members: object) -> dict[str, object]:
    answer = api.post(PATH, json=body(*args, **members))
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def problem(answer: httpx.Response) -> tuple[object, ...]:
    told = answer.json()
    assert list(told) == ["type", "title", "status", "detail", "instance"]
    assert told["status"] == answer.status_code
    return tuple(told.values())


def invalid(detail: str, instance: str = PATH) -> tuple[object, ...]:
    return ("/errors/validation", "custom provider validation failed", 400, detail, instance)


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_created_route_is_shown_with_every_field(api, key_id, path, method):
    """Nothing that was sent is lost, and request parameters are the text that was sent."""
    sent = body(
        path,
        key_id,
        name="quotes \"'{}, 😀" + "x" * 10_000,
        steps=[
            {
                "retries": 2,
                "retryInterval": "250ms",
                "provider": "openai",
                "requestParams": {"temperature": 0.10, "stop": ["\u2028", "\\u0000"], "own": {}},
                "params": {"apiVersion": "2024-10-21", "": "empty"},
                "model": "gpt-4o",
                "timeout": "1m30s",
            }
        ],
        cacheConfig={"enabled": True, "ttl": "720h"},
        retryStrategy="exponential",
        requestFormat="openai_chat",
        failoverOn="any",
    )
    text = json.dumps(sent).replace('"temperature": 0.1', '"temperature":  0.1000')

    answer = api.request(method, PATH, content=text)

    shown = answer.json()
    assert answer.status_code == 200, answer.text
    assert list(shown) == [
        "id",
        "retryStrategy",
        "requestFormat",
        "createdAt",
        "updatedAt",
        "name",
        "path",
        "keyIds",
        "steps",
        "cacheConfig",
        "failoverOn",
    ]
    assert {name: shown[name] for name in sent} == sent
    assert '"temperature":  0.1000' in answer.text
    assert api.get(f"{PATH}/{shown['id']}").text == answer.text
    assert shown in api.get(PATH).json()


def test_defaults_are_filled_in(api, key_id, path):
    """What is not given is shown as what is in force."""
    shown = create(api, path, key_id, cacheConfig={"Enabled": True})

    assert shown["steps"] == [
        {
            "retries": 0,
            "retryInterval": "1s",
            "provider": "openai",
            "requestParams": None,
            "params": None,
            "model": "gpt-4o",
            "timeout": "5m",
        }
    ]
    assert shown["cacheConfig"] == {"enabled": True, "ttl": "168h"}
    assert (shown["retryStrategy"], shown["requestFormat"]) == ("", "")
    assert "failoverOn" not in shown


def test_what_a_route_refers_to_must_be_there(api, gateway, key_id, path):
    """Keys, their settings for each step's provider, and a path of its own."""
    create(api, path, key_id)
    other = gateway.setting("http://127.0.0.1:9", provider="vllm")
    bare = gateway.key("sk-vllm-only-0123456789", other)["keyId"]

    def refused(**members: object) -> tuple[object, ...]:
        return problem(api.post(PATH, json=body(path, key_id) | members))

    assert refused() == invalid("path is not unique")
    assert refused(path="/other", keyIds=[key_id, "no-such"]) == invalid(
        "specified key ids are not found"
    )
    assert refused(path="/other", keyIds=["\0"]) == invalid("NUL is not allowed")
    assert refused(path="/other", keyIds=[key_id, bare]) == (
        "/errors/route-manager",
        "creating a route error",
        400,
        UNCOVERED,
        PATH,
    )


def test_a_patch_replaces_what_it_gives_and_checks_the_whole(api, key_id, path):
    """What is absent stays."""
    created = create(api, path, key_id, steps=[STEP, STEP | {"requestParams": {"n": 2}}])
    where = f"{PATH}/{created['id']}"

    changed = api.patch(where, json={"name": "new", "cacheConfig": {"enabled": True}})

    assert changed.status_code == 200, changed.text
    assert changed.json() == created | {
        "name": "new",
        "cacheConfig": {"enabled": True, "ttl": "168h"},
        "updatedAt": changed.json()["updatedAt"],
    }
    one = api.patch(where, json={"steps": [STEP], "path": f"{path}/2", "failoverOn": "any"}).json()
    assert (len(one["steps"]), one["path"], one["failoverOn"]) == (1, f"{path}/2", "any")
    assert problem(api.patch(where, json={"steps": []})) == invalid(
        "invalid fields in route: steps", f"{PATH}/:id"
    )
    assert problem(api.patch(where, json={"steps": [STEP | {"provider": "nobody"}]}))[:2] == (
        "/errors/route-manager",
        "updating a route error",
    )
    assert api.get(where).json() == one


async def forget(url: str, key_id: object) -> None:
    """Takes a key out of the database."""
    connection = await asyncpg.connect(url, timeout=60)
    try:
        await connection.execute("DELETE FROM configuration_items WHERE id = $1", key_id)
    finally:
        await connection.close()


def test_a_key_that_is_gone_does_not_stand_in_the_way_of_a_change(
    api, gateway, module_postgres, key_id, path
):
    """Only a change that names keys must name keys that are there."""
    lost = gateway.key("sk-lost-0123456789", gateway.setting("http://127.0.0.1:9"))["keyId"]
    created = create(api, path, key_id, keyIds=[key_id, lost])
    where = f"{PATH}/{created['id']}"
    run_apart(forget(module_postgres.url, lost))

    assert api.patch(where, json={"name": "still"}).status_code == 200
    assert problem(api.patch(where, json={"keyIds": [lost]}))[3] == (
        "specified key ids are not found"
    )


def test_unknown_ids_are_told(api):
    """404 for get and patch; a deletion has what it wants already."""
    for method in ("GET", "PATCH"):
        answer = api.request(method, f"{PATH}/no-such", json={} if method == "PATCH" else None)

        assert problem(answer) == (
            "/errors/route-not-found",
            "route not found error",
            404,
            "route is not found for id: no-such",
            f"{PATH}/:id",
        )
    assert api.delete(f"{PATH}/no-such").status_code == 200


def test_a_deleted_route_is_gone_and_its_path_free(api, key_id, path):
    """At once, with an empty answer."""
    created = create(api, path, key_id)

    answer = api.delete(f"{PATH}/{created['id']}")

    assert (answer.status_code, answer.content) == (200, b"")
    assert api.get(f"{PATH}/{created['id']}").status_code == 404
    create(api, path, key_id)


def new(step: dict[str, object] | None = None, **changes: object) -> NewRoute:
    members: dict[str, object] = {
        "name": "a",
        "path": "/a",
        "key_ids": ["k"],
        "steps": [StepWire(**({"provider": "openai", "model": "gpt-4o"} | (step or {})))],
        "cache_config": CacheConfigWire(),
    }
    return NewRoute(**(members | changes))


def steps(*pairs: tuple[str, str]) -> list[StepWire]:
    return [StepWire(provider=provider, model=model) for provider, model in pairs]


def refusal(route: NewRoute) -> str:
    with pytest.raises(Invalid) as refused:
        check(route, DIALECTS, "")
    return str(refused.value)


@pytest.mark.parametrize(
    ("route", "fields"),
    [
        (
            NewRoute(),
            "name,path,keyIds,steps,cacheConfig",
        ),
        *(
            (new(path=path), "path")
            for path in [
                "a",
                "/a/../b",
                "/a?b",
                "/a#b",
                "/a b",
                "/a\n",
                "/\u2003",
                "/\x7f",
                "/" * (PATH_BYTES_MAX + 1),
            ]
        ),
        (new(key_ids=["a", ""]), "keyIds"),
        (new(retry_strategy="linear"), "retryStrategy"),
        (new(failover_on=""), "failoverOn"),
        (new(steps=steps(*[("openai", "m")] * (STEPS_MAX + 1))), "steps"),
        (new({"provider": "", "model": ""}), "steps.[0].provider,steps.[0].model"),
        *(
            (new({"retry_interval": text}), "steps.[0].retryInterval")
            for text in ["1", "1m", "2d", "-1s", "x", "nan", "1e9s", "s"]
        ),
        *(
            (new({"timeout": text}), "steps.[0].timeout")
            for text in ["0", "0s", "-1s", "5", "2d", "inf"]
        ),
        *((new({"retries": count}), "steps.[0].retries") for count in [-1, RETRIES_MAX + 1]),
        (
            new({"provider": "azure", "params": {"apiVersion": ""}}),
            "steps.[0].params.apiVersion,steps.[0].params.deploymentId",
        ),
        (new({"params": {"a": "b" * PARAMS_BYTES_MAX}}), "steps.[0].params"),
        (new(cache_config=None), "cacheConfig"),
        *(
            (new(cache_config=CacheConfigWire(ttl=text)), "cacheConfig.ttl")
            for text in ["1", "2d", "-1s", "0s"]
        ),
    ],
)
def test_wrong_fields_are_named(route, fields):
    """In the table's order."""
    assert refusal(route) == f"invalid fields in route: {fields}"


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        (
            '{"frequency_penalty":"1","max_tokens":null,"temperature":true,"top_p":[],"n":{},'
            '"presence_penalty":"","seed":"1","top_logprobs":false}',
            "frequency_penalty,max_tokens,temperature,top_p,n,presence_penalty,seed,top_logprobs",
        ),
        ('{"stop":"a"}', "stop"),
        ('{"stop":[]}', "stop"),
        ('{"stop":["a",1]}', "stop"),
        ('{"logit_bias":{}}', "logit_bias"),
        ('{"logit_bias":{"1":"a"}}', "logit_bias"),
        ('{"logprobs":1}', "logprobs"),
    ],
)
def test_wrong_request_parameters_are_named(text, fields):
    """Those that the original knows; others are the provider's matter."""
    named = ",".join(f"steps.[0].requestParams.{field}" for field in fields.split(","))

    assert refusal(new({"request_params": text.encode()})) == f"invalid fields in route: {named}"


@pytest.mark.parametrize(
    "text",
    ["[]", "1", '{"a":"\\ud800"}', '{"a":1' + "0" * PARAMS_BYTES_MAX + "}", "{" + '"a":{' * 5000],
)
def test_request_parameters_must_be_a_readable_object(text):
    """Not too long, nor too deep."""
    assert refusal(new({"request_params": text.encode()})) == (
        "invalid fields in route: steps.[0].requestParams"
    )


@pytest.mark.parametrize(
    ("route", "message"),
    [
        (
            new({"provider": "nobody"}),
            "steps.[0].provider is not supported. Only azure, both, claude, openai are supported",
        ),
        (
            new(steps=steps(("openai", "a"), ("claude", "b"))),
            "steps must have congruent providers."
            " Providers without an API in common cannot be in the same route config",
        ),
        (
            new(steps=steps(("openai", "gpt-4o"), ("openai", "text-embedding-3-small"))),
            "steps must have congruent models."
            " Chat completion and embedding models cannot be in the same route config",
        ),
        (new(cache_config=CacheConfigWire(ttl="720h1s")), "cacheConfig.ttl exceedes 30 days"),
    ],
)
def test_what_does_not_go_together_is_refused_in_the_originals_words(route, message):
    """Providers, models, and a lifetime of answers."""
    assert refusal(route) == message


@pytest.mark.parametrize(
    "route",
    [
        new(),
        new(steps=steps(("openai", "o1"), ("both", "whatever"))),
        new(steps=steps(("claude", "a"), ("both", "b"))),
        new(steps=steps(("openai", "ada"), ("openai", "text-embedding-3-large"))),
        new(
            steps=steps(("openai", "my-vectors"), ("openai", "ada")),
            request_format="openai_embeddings",
        ),
        new(path="/é/😀/%2e"),
        new({"retry_interval": "0s", "timeout": "1ns", "retries": RETRIES_MAX}),
        new({"provider": "azure", "params": {"apiVersion": "1", "deploymentId": "d"}}),
        new({"request_params": b'{"seed":1e2,"stop":["a"],"logit_bias":{"50256":-100}}'}),
    ],
)
def test_what_makes_sense_passes(route):
    """No list of models decides."""
    check(route, DIALECTS, "")


@pytest.mark.parametrize(
    ("model", "is_embedding"),
    [
        ("text-embedding-3-large", True),
        ("text-embedding-ada-002", True),
        ("ada", True),
        ("my-ada.2", True),
        ("nomic-embed-text", True),
        ("gpt-4o", False),
        ("canada-chat", False),
        ("adapter-7b", False),
    ],
)
def test_a_models_name_tells_vectors_from_words(model, is_embedding):
    """Unless the route's format says."""
    route = Route("r", "n", "/", 1, 1, steps=(RouteStep("openai", model),))

    assert is_embedding_model(model) is is_embedding
    assert route.wants_embeddings is is_embedding
    assert Route(
        "r", "n", "/", 1, 1, steps=route.steps, request_format="openai_embeddings"
    ).wants_embeddings
    assert not Route(
        "r", "n", "/", 1, 1, steps=route.steps, request_format="openai_chat"
    ).wants_embeddings
