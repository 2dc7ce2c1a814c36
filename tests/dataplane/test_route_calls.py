"""Routes: steps in order, retries, what goes on and what is the client's, and what is recorded."""

import itertools
import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest
from support import loopback
from support.echo_provider import EchoProvider, echo_provider
from support.events import completed
from support.programs import Gateway
from support.raw_provider import raw_provider
from support.servers import free_port
from support.stores import NatsServer

BODY = (
    b'{"messages":[{"role":"user","content":"hi"}], "model" : "asked", "temperature":0.1,'
    b' "big":123456789012345678901234567890,"text":"\\u00e9"}'
)
ANSWER = b'{"id":"x","model":"m","usage":{"prompt_tokens":3,"completion_tokens":4}}'
HEAD_ONLY = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)


@pytest.fixture(scope="module")
def second() -> Iterator[EchoProvider]:
    """Another provider."""
    with echo_provider() as provider:
        yield provider


@pytest.fixture(autouse=True)
def _fresh(echo: EchoProvider, second: EchoProvider) -> None:
    for provider in (echo, second):
        provider.heard.clear()
        provider.tell(ANSWER)


class Routes:
    """Makes a key with two settings and a route for each test."""

    def __init__(self, gateway: Gateway, name: str) -> None:
        self.gateway = gateway
        self.name = name
        self.key = f"sk-{name}"
        self.custom_id = name
        self.id = ""

    def make(self, first: str, second: str, *steps: dict[str, object], **members: object) -> None:
        """Of the base URLs of `openai` and `deepinfra`."""
        settings = [
            self.gateway.setting(first),
            self.gateway.setting(second, provider="deepinfra"),
        ]
        found = self.gateway.key(self.key, settings[0], settingIds=settings)
        answer = loopback.post(
            f"{self.gateway.admin_url}/api/routes",
            json={
                "name": self.name,
                "path": f"/{self.name}",
                "keyIds": [found["keyId"]],
                "steps": list(steps),
                "cacheConfig": {"enabled": False},
                **members,
            },
        )
        assert answer.status_code == 200, answer.text
        self.id = answer.json()["id"]

    def ask(self, content: bytes = BODY, prefix: str = "routes", **headers: str) -> httpx.Response:
        """A call of the route; until it is in force, nothing is there, which is on record too."""
        deadline = time.monotonic() + 60
        for attempt in itertools.count():
            self.custom_id = f"{self.name}-{attempt}"
            answer = self.ask_once(content, prefix, **headers)
            if answer.status_code != 404:
                return answer
            assert time.monotonic() < deadline, f"{self.name} is not in force"
            time.sleep(0.1)
        raise AssertionError("there is always a next attempt")

    def ask_once(
        self, content: bytes = BODY, prefix: str = "routes", **headers: str
    ) -> httpx.Response:
        """A call of the route, whether it is in force or not."""
        return loopback.post(
            f"{self.gateway.proxy_url}/api/{prefix}/{self.name}",
            content=content,
            headers={
                "authorization": f"Bearer {self.key}",
                "x-custom-event-id": self.custom_id,
                **headers,
            },
        )


@pytest.fixture
def routes(gateway: Gateway, request: pytest.FixtureRequest) -> Routes:
    """Named after the test."""
    return Routes(gateway, request.node.name.replace("[", "-").replace("]", ""))


def step(provider: str = "openai", **members: object) -> dict[str, object]:
    return {"provider": provider, "model": f"of-{provider}", "retryInterval": "10ms", **members}


def dead() -> str:
    return f"http://127.0.0.1:{free_port()}"


def test_a_step_that_fails_is_followed_by_the_next(
    routes: Routes, echo: EchoProvider, second: EchoProvider, bus: NatsServer
):
    """Each step gets the client's bytes with its own model and parameters, and both are recorded."""
    echo.tell(b'{"error":{}}', status=503)
    routes.make(
        echo.url, second.url, step(), step("deepinfra", requestParams={"temperature": 0.70})
    )

    answer = routes.ask()

    assert (answer.status_code, answer.content) == (200, ANSWER)
    assert echo.heard[0].body == BODY.replace(b'"asked"', b'"of-openai"')
    assert second.heard[0].target == "/chat/completions"
    assert second.heard[0].body == BODY.replace(b'"asked"', b'"of-deepinfra"').replace(
        b'"temperature":0.1', b'"temperature":0.7'
    )
    event = completed(bus, routes.custom_id)
    assert event.route_id == routes.id
    assert [(one.setting.provider, one.model_sent, one.status) for one in event.attempts] == [
        ("openai", "of-openai", 503),
        ("deepinfra", "of-deepinfra", 200),
    ]
    assert (event.call.endpoint, event.call.operation) == ("openai.chat_completions", "chat")
    assert event.call.path_template == "/api/routes/*route"
    assert event.call.model_asked == "asked"
    assert event.request.content == BODY


def test_a_step_is_retried_and_the_last_answer_is_the_clients(
    routes: Routes, echo: EchoProvider, bus: NatsServer
):
    """Two retries are three attempts, each in the event."""
    echo.tell(b'{"error":{"message":"busy"}}', status=500, x_mark="kept")
    routes.make(echo.url, dead(), step(retries=2))

    answer = routes.ask()

    assert (answer.status_code, answer.json()["error"]["message"]) == (500, "busy")
    assert answer.headers["x-mark"] == "kept"
    assert len(echo.heard) == 3
    assert [one.status for one in completed(bus, routes.custom_id).attempts] == [500] * 3


def test_an_answer_is_better_than_none(
    routes: Routes, second: EchoProvider, bus: NatsServer, echo: EchoProvider
):
    """When the later steps cannot even be reached, the client gets what an earlier one said."""
    second.tell(b'{"error":{"message":"later"}}', status=429)
    routes.make(dead(), second.url, step("deepinfra"), step(retries=1))

    answer = routes.ask()

    assert (answer.status_code, answer.json()["error"]["message"]) == (429, "later")
    event = completed(bus, routes.custom_id)
    assert [one.status for one in event.attempts] == [429, None, None]
    assert event.attempts[-1].error == "connect_failed"
    assert event.status == 429


def test_no_answer_at_all_is_502(routes: Routes, bus: NatsServer):
    """In the shape of the dialect, and recorded."""
    routes.make(dead(), dead(), step(), step("deepinfra"))

    answer = routes.ask()

    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_unavailable")
    event = completed(bus, routes.custom_id)
    assert (event.outcome, len(event.attempts)) == ("upstream_failed", 2)


@pytest.mark.parametrize("failover_on", ["retryable", "any"])
def test_what_the_client_got_wrong_goes_on_only_when_told_so(
    routes: Routes, echo: EchoProvider, second: EchoProvider, failover_on: str
):
    """A 400 would be one everywhere; as BricksLLM, any non-200, by option."""
    echo.tell(b'{"error":{}}', status=400)
    routes.make(echo.url, second.url, step(), step("deepinfra"), failoverOn=failover_on)

    assert routes.ask().status_code == (400 if failover_on == "retryable" else 200)
    assert len(second.heard) == (0 if failover_on == "retryable" else 1)


def test_a_step_that_is_silent_for_too_long_is_left(
    routes: Routes, second: EchoProvider, bus: NatsServer
):
    """Its own timeout, not the whole exchange's."""
    with raw_provider(hangs_up=False) as silent:
        routes.make(silent, second.url, step(timeout="1s"), step("deepinfra"))
        answer = routes.ask()

    assert answer.status_code == 200
    attempts = completed(bus, routes.custom_id).attempts
    assert [one.error for one in attempts] == ["step_timeout", None]


@pytest.mark.parametrize("whose", ["step", "exchange"])
def test_time_that_ends_before_there_is_a_connection_costs_nothing(
    routes: Routes, bus: NatsServer, whose: str
):
    """The provider cannot bill what never reached it, whichever clock ran out."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, ExitStack() as full:
        for _ in range(4):
            waiting = full.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        routes.make(url, dead(), step(timeout="200ms" if whose == "step" else "1m"))
        answer = routes.ask(**{"x-request-timeout": "2s" if whose == "exchange" else "1m"})

    assert answer.status_code == 504
    event = completed(bus, routes.custom_id)
    assert (event.outcome, event.attempts[0].error) == ("timed_out", "connect_timeout")


def test_a_stream_fails_over_until_its_first_byte(routes: Routes, provider: str, bus: NatsServer):
    """A head without a body is nothing that a client would have seen."""
    with raw_provider(HEAD_ONLY) as cut:
        routes.make(cut, provider, step(), step("deepinfra"))
        answer = routes.ask(b'{"messages":[{"role":"user","content":"hi"}],"stream":true}')

    assert answer.status_code == 200
    assert answer.text.endswith("data: [DONE]\n\n")
    event = completed(bus, routes.custom_id)
    assert [(one.status, one.error) for one in event.attempts] == [
        (200, "response_cut"),
        (200, None),
    ]
    assert event.usage_document is not None


def test_a_stream_that_breaks_later_is_not_begun_again(routes: Routes, second: EchoProvider):
    """The client has seen the first byte: it is told, and the next step is not asked."""
    begun = HEAD_ONLY + b"9\r\ndata: x\n\n\r\n"
    with raw_provider(begun) as cut:
        routes.make(cut, second.url, step(), step("deepinfra"))
        with pytest.raises(httpx.RemoteProtocolError):
            routes.ask(b'{"messages":[],"stream":true}')

    assert not second.heard


def test_a_path_of_the_readme_works_too(routes: Routes, echo: EchoProvider):
    """`/api/route/`, beside `/api/routes/`."""
    routes.make(echo.url, dead(), step())

    assert routes.ask(prefix="route").status_code == 200


def test_only_named_keys_may_use_a_route(routes: Routes, echo: EchoProvider, bus: NatsServer):
    """401 for others, 404 where there is no route, whatever the key."""
    routes.make(echo.url, dead(), step())
    routes.gateway.key("sk-stranger-" + routes.name, routes.gateway.setting(echo.url))
    assert routes.ask().status_code == 200

    strange = routes.ask(authorization=f"Bearer sk-stranger-{routes.name}")
    routes.name += "-none"
    missing = routes.ask_once()

    assert (strange.status_code, strange.json()["error"]["message"]) == (401, "not authorized")
    assert (missing.status_code, missing.json()["error"]["message"]) == (404, "route not found")


def test_azure_is_asked_by_deployment_and_version(routes: Routes, echo: EchoProvider):
    """Both come from the step's params."""
    setting = routes.gateway.setting(
        echo.url, provider="azure", setting={"apikey": "k", "resourceName": "r", "url": echo.url}
    )
    other = routes.gateway.key(f"sk-azure-{routes.name}", setting)
    routes.make(echo.url, dead(), step())
    answer = loopback.patch(
        f"{routes.gateway.admin_url}/api/routes/{routes.id}",
        json={
            "keyIds": [other["keyId"]],
            "steps": [step("azure", params={"deploymentId": "d 1", "apiVersion": "2024-10-21"})],
        },
    )
    assert answer.status_code == 200, answer.text
    routes.key = f"sk-azure-{routes.name}"
    routes.gateway.wait_until(lambda: routes.ask().status_code == 200)

    assert echo.heard[-1].target == (
        "/openai/deployments/d%201/chat/completions?api-version=2024-10-21"
    )
    assert echo.heard[-1].headers["api-key"] == "k"


def test_steps_of_models_that_the_key_may_not_use_are_left_out(
    routes: Routes, echo: EchoProvider, second: EchoProvider
):
    """And when none is left, the key is told."""
    routes.make(echo.url, second.url, step(), step("deepinfra"))
    found = loopback.get(f"{routes.gateway.admin_url}/api/routes/{routes.id}").json()
    key_id = found["keyIds"][0]
    url = f"{routes.gateway.admin_url}/api/key-management/keys/{key_id}"
    for models in (["of-deepinfra"], ["other"]):
        assert loopback.patch(url, json={"allowedModels": models}).status_code == 200
        is_refused = models == ["other"]
        routes.gateway.wait_until(
            lambda is_refused=is_refused: (  # type: ignore[misc]
                (routes.ask().status_code == 403) is is_refused and bool(second.heard)
            )
        )
    asked = len(echo.heard)
    answer = routes.ask()

    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "model_not_allowed")
    assert len(echo.heard) == asked
    assert second.heard


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"[]", b'{"model":', b'{"mod\\u0065l":"x"}'),
        *(b'{"Model":"x"}', b'{"mOdel":"x","n":1}', b'{"messages":[],"MODEL":null}'),
    ],
)
def test_a_body_that_cannot_be_edited_for_sure_is_refused(
    routes: Routes, echo: EchoProvider, content: bytes
):
    """A model that only some readers would find must not get past the route's.

    Some readers are blind to upper and lower case.
    """
    routes.make(echo.url, dead(), step())

    assert routes.ask(content).status_code == 400
    assert not echo.heard


@pytest.mark.parametrize("name", ["Temperature", "top_\u212a", "\u017feed"])
def test_a_parameter_that_is_written_otherwise_is_refused(
    routes: Routes, echo: EchoProvider, name: str
):
    """Beside the route's own, some readers would take it: Go's fold letters as Unicode does."""
    params = {"temperature": 0.7, "top_k": 1, "seed": 1}
    routes.make(echo.url, dead(), step(requestParams=params))

    answer = routes.ask(json.dumps({"messages": [], name: 2}).encode())

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_body")
    assert not echo.heard


def test_a_step_that_does_not_stream_is_not_asked_for_usage_at_the_end(
    routes: Routes, echo: EchoProvider
):
    """Providers refuse `stream_options` in a call that is no stream."""
    routes.make(echo.url, dead(), step(requestParams={"stream": False}))

    assert routes.ask(b'{"stream":true,"messages":[]}').status_code == 200
    assert json.loads(echo.heard[0].body) == {
        "model": "of-openai",
        "stream": False,
        "messages": [],
    }


def test_a_route_needs_no_model_in_its_body(routes: Routes, echo: EchoProvider):
    """The step's is put in."""
    routes.make(echo.url, dead(), step())
    routes.ask(b'{"messages":[]}')

    assert json.loads(echo.heard[0].body) == {"model": "of-openai", "messages": []}


@pytest.mark.parametrize("asks_as", ["anthropic", "openai"])
def test_a_route_over_anthropic_speaks_what_is_asked(
    routes: Routes, echo: EchoProvider, bus: NatsServer, asks_as: str
):
    """Messages for its own clients, chat completions for all others."""
    setting = routes.gateway.setting(echo.url, provider="anthropic")
    found = routes.gateway.key(routes.key, setting)
    answer = loopback.post(
        f"{routes.gateway.admin_url}/api/routes",
        json={
            "name": routes.name,
            "path": f"/{routes.name}",
            "keyIds": [found["keyId"]],
            "steps": [step("anthropic")],
            "cacheConfig": {"enabled": False},
        },
    )
    assert answer.status_code == 200, answer.text
    said = {"anthropic-version": "2023-06-01"} if asks_as == "anthropic" else {}

    assert routes.ask(**said).status_code == 200
    is_message = asks_as == "anthropic"
    assert echo.heard[0].target == ("/v1/messages" if is_message else "/v1/chat/completions")
    assert ("x-api-key" in echo.heard[0].headers) is is_message
    event = completed(bus, routes.custom_id)
    assert event.call.endpoint == (
        "anthropic.messages" if is_message else "openai.chat_completions"
    )


def test_a_route_of_embeddings_asks_for_embeddings(
    routes: Routes, echo: EchoProvider, bus: NatsServer
):
    """By the model of its first step."""
    routes.make(echo.url, dead(), step(model="text-embedding-3-small"))

    assert routes.ask(b'{"input":"hi"}').status_code == 200
    assert echo.heard[0].target == "/v1/embeddings"
    assert completed(bus, routes.custom_id).call.operation == "embeddings"
