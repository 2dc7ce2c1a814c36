"""Several settings of one key: who is asked, who is asked instead, and who rests."""

from collections import Counter
from collections.abc import Iterator

import httpx
import pytest
from support import loopback
from support.echo_provider import EchoProvider, echo_provider
from support.events import completed
from support.programs import Gateway
from support.raw_provider import raw_provider
from support.servers import free_port
from support.stores import NatsServer

ANSWER = b'{"id":"x","model":"gpt-4o","usage":{"prompt_tokens":3,"completion_tokens":4}}'
ROOT = "/v1/chat/completions"
OWN = "/api/providers/openai/v1/chat/completions"


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


class Pair:
    """A key with two settings of one provider."""

    def __init__(self, gateway: Gateway, name: str) -> None:
        self.gateway = gateway
        self.name = name
        self.key = f"sk-{name}"

    def make(self, first: str, second: str, **members: object) -> None:
        settings = [self.gateway.setting(first), self.gateway.setting(second)]
        self.gateway.key(self.key, settings[0], settingIds=settings, **members)

    def ask(self, path: str = ROOT, **body: object) -> httpx.Response:
        return loopback.post(
            f"{self.gateway.proxy_url}{path}",
            json={"model": "gpt-4o", "messages": [], **body},
            headers={"authorization": f"Bearer {self.key}", "x-custom-event-id": self.name},
        )


@pytest.fixture
def pair(gateway: Gateway, request: pytest.FixtureRequest) -> Pair:
    """Named after the test."""
    return Pair(gateway, request.node.name)


def dead() -> str:
    return f"http://127.0.0.1:{free_port()}"


@pytest.mark.parametrize("status", [401, 408, 429, 500, 503])
def test_another_setting_serves_what_one_cannot(
    pair: Pair, echo: EchoProvider, second: EchoProvider, bus: NatsServer, status: int
):
    """Under the plain root; both attempts are recorded, the last one is whose bill it is."""
    echo.tell(b'{"error":{}}', status=status)
    pair.make(echo.url, second.url)

    assert pair.ask().content == ANSWER
    attempts = completed(bus, pair.name).attempts
    assert [one.status for one in attempts] == [status, 200]
    assert len({one.setting.setting_id for one in attempts}) == 2


def test_a_request_that_is_wrong_is_wrong_everywhere(
    pair: Pair, echo: EchoProvider, second: EchoProvider
):
    """The provider's 400 is the client's."""
    echo.tell(b'{"error":{"message":"no"}}', status=400)
    pair.make(echo.url, second.url)

    assert (pair.ask().status_code, len(second.heard)) == (400, 0)


@pytest.mark.parametrize("status", [429, 500])
def test_when_all_fail_it_is_502(
    pair: Pair, echo: EchoProvider, second: EchoProvider, bus: NatsServer, status: int
):
    """Whatever each of them said is in the event."""
    for provider in (echo, second):
        provider.tell(b'{"error":{}}', status=status)
    pair.make(echo.url, second.url)

    answer = pair.ask()

    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_unavailable")
    event = completed(bus, pair.name)
    assert [one.status for one in event.attempts] == [status, status]
    assert event.outcome == "upstream_failed"


def test_the_only_settings_answer_is_the_clients(gateway: Gateway, echo: EchoProvider):
    """There is nobody else to ask, and nothing to hide."""
    echo.tell(b'{"error":{"message":"down"}}', status=503)
    gateway.key("sk-only", gateway.setting(echo.url))
    pair = Pair(gateway, "only")

    assert pair.ask().json()["error"]["message"] == "down"


def test_under_a_providers_path_what_it_says_is_the_clients(
    pair: Pair, echo: EchoProvider, second: EchoProvider
):
    """One setting, as if the provider itself had been asked."""
    echo.tell(b'{"error":{"message":"busy"}}', status=429)
    pair.make(echo.url, second.url)

    assert pair.ask(OWN).json()["error"]["message"] == "busy"
    assert not second.heard


def test_under_a_providers_path_another_setting_is_asked_when_nothing_arrived(
    pair: Pair, second: EchoProvider
):
    """A connection that was refused has cost nobody anything."""
    pair.make(dead(), second.url)

    assert pair.ask(OWN).status_code == 200


def test_under_a_providers_path_nothing_is_sent_twice(pair: Pair, second: EchoProvider):
    """What was sent may be billed."""
    with raw_provider() as resetting:
        pair.make(resetting, second.url)
        answer = pair.ask(OWN)

    assert (answer.status_code, len(second.heard)) == (502, 0)


def test_who_failed_rests(pair: Pair, echo: EchoProvider, second: EchoProvider):
    """The next calls do not even try, until it has rested."""
    echo.tell(b'{"error":{}}', status=429, retry_after="30")
    pair.make(echo.url, second.url)

    assert [pair.ask().status_code for _ in range(4)] == [200] * 4
    assert (len(echo.heard), len(second.heard)) == (1, 4)


def test_when_all_are_busy_the_client_is_told_how_long(
    pair: Pair, echo: EchoProvider, second: EchoProvider
):
    """The shortest time that any of them asked for."""
    echo.tell(b'{"error":{}}', status=429, retry_after="30")
    second.tell(b'{"error":{}}', status=429, retry_after="6.2")
    pair.make(echo.url, second.url)

    answer = pair.ask()

    assert (answer.status_code, answer.headers["retry-after"]) == (502, "7")


def test_when_all_rest_they_are_asked_all_the_same(
    pair: Pair, echo: EchoProvider, second: EchoProvider
):
    """Rests are to spare the others' time, not to refuse anybody."""
    for provider in (echo, second):
        provider.tell(b'{"error":{}}', status=429, retry_after="30")
    pair.make(echo.url, second.url)
    pair.ask()
    for provider in (echo, second):
        provider.tell(ANSWER)

    assert pair.ask().status_code == 200


@pytest.mark.parametrize("members", [{"rotationEnabled": True}, {"balancing": "random"}])
def test_rotation_spreads_over_the_settings(
    pair: Pair, echo: EchoProvider, second: EchoProvider, members: dict[str, object]
):
    """On either path; 40 calls to one of two would be one chance in 2**39."""
    pair.make(echo.url, second.url, **members)
    for path in (ROOT, OWN):
        for _ in range(20):
            assert pair.ask(path).status_code == 200

    assert len(echo.heard) + len(second.heard) == 40
    assert echo.heard
    assert second.heard


def test_sticky_keeps_an_end_user_with_one_setting(
    pair: Pair, echo: EchoProvider, second: EchoProvider
):
    """So that what the provider has cached of a conversation is of use."""
    pair.make(echo.url, second.url, balancing="sticky")
    for n in range(60):
        pair.ask(user=f"u{n % 30}")

    by_user = Counter(
        (provider.url, heard.body[heard.body.index(b'"user"') :])
        for provider in (echo, second)
        for heard in provider.heard
    )
    assert len(by_user) == 30
    assert set(by_user.values()) == {2}
    assert {url for url, _ in by_user} == {echo.url, second.url}


def test_calls_without_a_model_stay_with_one_setting(
    pair: Pair, echo: EchoProvider, second: EchoProvider
):
    """A file is where it was put."""
    pair.make(echo.url, second.url, balancing="random")
    for _ in range(12):
        loopback.get(
            f"{pair.gateway.proxy_url}/v1/files/f", headers={"authorization": f"Bearer {pair.key}"}
        )

    assert (len(echo.heard), len(second.heard)) == (12, 0)
