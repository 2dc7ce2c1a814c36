"""Custom providers: where their calls go, as whom, and what is read of them."""

import json

import httpx
import pytest
from support import loopback
from support.echo_provider import EchoProvider
from support.events import completed
from support.programs import Gateway
from support.raw_provider import raw_provider
from support.stores import NatsServer

from contracts.exchange import TextPlaces

ANSWER = b'{"output":{"words":"hello"},"usage":{"prompt_tokens":3,"completion_tokens":4}}'
ASK = (
    b'{ "options":{"engine":"e-1","live":false}, "turns":[{"say":"hi"},{"say":"you"}],'
    b'"big":123456789012345678901}'
)
STREAM = b'data: {"piece":"hel"}\n\ndata: {"piece":"lo"}\n\ndata: [END]\n\n'


class Custom:
    """One custom provider, a setting of it and a key."""

    def __init__(
        self, gateway: Gateway, url: str, name: str, param: str = "token", **members: object
    ) -> None:
        self.gateway = gateway
        self.name = name
        self.custom_id = name
        answer = loopback.post(
            f"{gateway.admin_url}/api/custom/providers",
            json={
                "provider": name,
                "authentication_param": param,
                "route_configs": [
                    {
                        "path": "/talk/now",
                        "target_url": f"{url}/deep/talk?v=2",
                        "model_location": "options.engine",
                        "request_prompt_location": "turns.#.say",
                        "response_completion_location": "output.words",
                        "stream_location": "options.live",
                        "stream_end_word": "[END]",
                        "stream_response_completion_location": "piece",
                    }
                ],
            },
        )
        assert answer.status_code == 200, answer.text
        values = {"token": "t-0123456789", "apikey": "k-0123456789"}
        setting = gateway.setting("", provider=name, **{"setting": values, **members})
        self.key = f"sk-{name}"
        gateway.key(self.key, setting)

    def ask(
        self, content: bytes = ASK, path: str = "/talk/now", name: str = "", **headers: str
    ) -> httpx.Response:
        """A call of a path of a provider."""
        return loopback.post(
            f"{self.gateway.proxy_url}/api/custom/providers/{name or self.name}{path}?q=1",
            content=content,
            headers={
                "authorization": f"Bearer {self.key}",
                "x-custom-event-id": self.custom_id,
                **headers,
            },
        )


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """Of the test, as a provider may be called."""
    return str(request.node.name).replace("[", "-").replace("]", "").lower()


@pytest.fixture
def custom(gateway: Gateway, echo: EchoProvider, name: str) -> Custom:
    """Named after the test."""
    echo.heard.clear()
    echo.tell(ANSWER, x_mark="theirs")
    return Custom(gateway, echo.url, name)


def test_the_clients_bytes_go_to_the_fixed_url(custom: Custom, echo: EchoProvider):
    """Its own path and query, nothing of ours; the answer comes down as it is."""
    answer = custom.ask()

    assert (answer.status_code, answer.content) == (200, ANSWER)
    assert answer.headers["x-mark"] == "theirs"
    assert (echo.heard[0].method, echo.heard[0].target) == ("POST", "/deep/talk?v=2")
    assert echo.heard[0].body == ASK


@pytest.mark.parametrize(("param", "sent"), [("token", "t-0123456789"), ("", "k-0123456789")])
def test_the_named_member_is_the_credential(
    gateway: Gateway, echo: EchoProvider, name: str, param: str, sent: str
):
    """As a bearer; `apikey` when none is named. The client's own never goes up."""
    custom = Custom(gateway, echo.url, name, param)
    assert custom.ask(**{"x-goog-api-key": "sk-theirs"}).status_code == 200
    headers = echo.heard[-1].headers
    assert headers["authorization"] == f"Bearer {sent}"
    assert custom.key not in str(headers)
    assert "sk-theirs" not in str(headers)


def test_a_provider_that_repeats_the_credential_does_not_tell_it(
    custom: Custom, echo: EchoProvider
):
    """Errors are searched for it."""
    echo.tell(b'{"error":"t-0123456789 is wrong"}', status=400)

    assert b"t-0123456789" not in custom.ask().content


def test_what_is_unknown_is_404(custom: Custom, echo: EchoProvider):
    """Of a provider, of a path; a longer path is another one."""
    provider = custom.ask(name="nobody")
    path = custom.ask(path="/talk")
    longer = custom.ask(path="/talk/now/")

    assert [one.status_code for one in (provider, path, longer)] == [404] * 3
    messages = [one.json()["error"]["message"] for one in (provider, path)]
    assert messages == ["requested custom provider is not found", "route config is not found"]
    assert not echo.heard


def test_model_and_attempt_are_recorded(custom: Custom, bus: NatsServer):
    """The model where the operator says it is, the provider by its name."""
    custom.ask()

    event = completed(bus, custom.custom_id)
    assert event.call.model_asked == "e-1"
    assert (event.attempts[0].setting.provider, event.attempts[0].model_sent) == (
        custom.name,
        "e-1",
    )
    assert event.call.path_template == "/api/custom/providers/:provider/*wildcard"
    assert event.response.content == ANSWER
    assert event.text_places == TextPlaces("turns.#.say", "output.words", "piece")


def test_a_cost_map_goes_with_the_event(
    gateway: Gateway, echo: EchoProvider, bus: NatsServer, name: str
):
    """What the setting's operator says its models cost."""
    prices = {"promptCostPerModel": {"e-1": 2}, "completionCostPerModel": {"e-1": 3}}
    echo.tell(ANSWER)
    Custom(gateway, echo.url, name, costMap=prices).ask()

    cost_map = completed(bus, name).cost_map
    assert cost_map is not None
    assert json.loads(cost_map) == prices


def test_streams_are_relayed_as_they_come(custom: Custom, echo: EchoProvider, bus: NatsServer):
    """And known as streams by the member that says so."""
    echo.tell(STREAM, content_type="text/event-stream")
    answer = custom.ask(ASK.replace(b"false", b"true"))

    assert answer.content == STREAM
    event = completed(bus, custom.custom_id)
    assert event.call.is_streaming
    assert event.response.content == STREAM


def test_a_list_of_models_holds_for_what_the_location_names(
    gateway: Gateway, echo: EchoProvider, name: str
):
    """A setting's own list, too; a body that names none passes no list."""
    echo.heard.clear()
    custom = Custom(gateway, echo.url, name, allowedModels=["e-2"])
    answers = [
        custom.ask(ASK).status_code,
        custom.ask(b"{}").status_code,
        custom.ask(ASK.replace(b"e-1", b"e-2")).status_code,
    ]

    assert answers == [403, 403, 200]
    assert len(echo.heard) == 1


@pytest.mark.parametrize(
    "content",
    [
        b'{"options":{"engine":"e-1"},"options":{"engine":"e-2"}}',
        b'{"options":{"engine":"e-1","engine":"e-2"}}',
        b'{"options":{"engine":"e-1","Engine":"e-2"}}',
        b'{"OPTIONS":{"engine":"e-1"},"options":{"engine":"e-2"}}',
        b'{"options":{"engine":"e-1","\\u0065ngine":"e-2"}}',
        b'{"options":{"live":true,"engine":"e-1"},"Options":null}',
    ],
    ids=range(6),
)
def test_a_model_that_is_named_twice_is_refused(custom: Custom, echo: EchoProvider, content: bytes):
    """The provider may take the other one than we; upper and lower case are one to some."""
    answer = custom.ask(content)

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_model")
    assert not echo.heard


@pytest.mark.parametrize(
    "content",
    [
        b'{"options":{"engine":"e-1"},"x":{"engine":"e-2"},"y":"\\"engine\\": \\u0065"}',
        b'{"a":[{"options":1},{"engine":1}],"options":{"x":{"engine":"e-2"},"\\u0065ngine":"e-1"}}',
    ],
    ids=range(2),
)
def test_the_same_name_elsewhere_is_another_member(
    custom: Custom, echo: EchoProvider, bus: NatsServer, content: bytes
):
    """In other objects, and in texts."""
    assert custom.ask(content).status_code == 200
    assert completed(bus, custom.custom_id).call.model_asked == "e-1"


@pytest.mark.parametrize("content", [b"", b"{", b"\xff"])
def test_what_is_no_json_is_refused(custom: Custom, echo: EchoProvider, content: bytes):
    """Nobody could say what it asks for."""
    answer = custom.ask(content)

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_json")
    assert not echo.heard


def test_a_key_without_a_setting_of_it_is_401(custom: Custom, gateway: Gateway, echo: EchoProvider):
    """Another vendor's secret is never sent there."""
    gateway.key(custom.key + "-other", gateway.setting(echo.url))
    answer = custom.ask(authorization=f"Bearer {custom.key}-other")

    assert (answer.status_code, answer.json()["error"]["code"]) == (
        401,
        "provider_setting_not_found",
    )
    assert not echo.heard


def test_its_settings_serve_no_other_path(custom: Custom, echo: EchoProvider):
    """Its secret is never sent to another vendor."""
    answer = loopback.post(
        f"{custom.gateway.proxy_url}/v1/chat/completions",
        headers={"authorization": f"Bearer {custom.key}"},
        json={"model": "gpt-4o", "messages": []},
    )

    assert answer.status_code == 400
    assert not echo.heard


def test_failures_are_502_in_openais_shape(gateway: Gateway, name: str):
    """As everywhere."""
    with raw_provider() as broken:
        answer = Custom(gateway, broken, name).ask()

    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_unavailable")
