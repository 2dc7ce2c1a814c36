"""Who may ask, what is said to those who may not, and to those who ask for what is not there."""

from typing import Any

import msgspec
import pytest
from support.reporting import Api, opened_app

from reporting.settings import ReportingSettings, load_settings
from runtime.loopback import is_loopback
from runtime.settings import BadSettings, Secret

NOWHERE = ReportingSettings(
    clickhouse_url="http://127.0.0.1:1",
    nats_url="nats://127.0.0.1:1",
    admin_pass=Secret("pässword"),
)
QUESTIONS = [
    ("POST", "/api/reporting/events"),
    ("POST", "/api/reporting/top-keys"),
    ("POST", "/api/v2/events"),
    ("GET", "/api/v2/events"),
    ("GET", "/api/events"),
    ("GET", "/api/reporting/keys/k"),
    ("GET", "/api/reporting/user-ids"),
    ("GET", "/api/reporting/users-ids"),
    ("GET", "/api/reporting/custom-ids"),
    ("GET", "/api/reporting/metering"),
]


@pytest.fixture
async def locked_api() -> Any:
    """The app with a pass."""
    async with opened_app(NOWHERE) as client:
        yield client


@pytest.mark.parametrize(("method", "path"), QUESTIONS)
@pytest.mark.parametrize("given", [None, "", "wrong", "pässword ", "PÄSSWORD", "\xff"])
async def test_every_question_needs_the_pass(
    locked_api: Api, method: str, path: str, given: str | None
) -> None:
    """401 in the admin shape, before anything of the request is judged."""
    headers = {} if given is None else {"X-API-KEY": given.encode()}

    answer = await locked_api.request(method, path, headers=headers, content=b"{")

    assert answer.status_code == 401
    problem = answer.json()
    assert list(problem) == ["type", "title", "status", "detail", "instance"]
    assert (problem["type"], problem["status"]) == ("/errors/unauthorized", 401)
    assert "ssword" not in answer.text


async def test_the_pass_opens(locked_api: Api) -> None:
    """The next thing that is judged is the question."""
    answer = await locked_api.post(
        "/api/v2/events", content=b"{", headers={"x-api-key": "pässword".encode()}
    )

    assert answer.status_code == 400
    assert answer.json()["type"] == "/errors/json-unmarshal"
    assert answer.json()["title"] == "json unmarshaller error"


async def test_health_is_open_and_empty(locked_api: Api) -> None:
    """It lives, whatever has become of its stores."""
    answer = await locked_api.get("/api/health")

    assert (answer.status_code, answer.content) == (200, b"")


async def test_unknown_path_and_method_are_404_in_plain_text(unconnected_api: Api) -> None:
    """As the ancestor's router has it."""
    for method, path in (("GET", "/api/nothing"), ("DELETE", "/api/v2/events")):
        answer = await unconnected_api.request(method, path)

        assert (answer.status_code, answer.text) == (404, "404 page not found")
        assert answer.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"start":"1"}', b"\xff"])
@pytest.mark.parametrize(
    "path", ["/api/reporting/events", "/api/reporting/top-keys", "/api/v2/events"]
)
async def test_bad_json_is_400(unconnected_api: Api, path: str, body: bytes) -> None:
    """Where the ancestor said 500."""
    answer = await unconnected_api.post(path, content=body)

    problem = answer.json()
    assert (answer.status_code, problem["status"]) == (400, 400)
    assert (problem["type"], problem["instance"]) == ("/errors/json-unmarshal", path)


async def test_ledger_out_of_reach_is_503(unconnected_api: Api) -> None:
    """In the endpoint's own words, without a word on how it is reached."""
    answer = await unconnected_api.post(
        "/api/reporting/events", json={"start": 1, "end": 2, "increment": 1}
    )

    assert answer.status_code == 503
    assert answer.json() == {
        "type": "/errors/event-reporting-manager",
        "title": "event reporting error",
        "status": 503,
        "detail": "the ledger cannot be reached",
        "instance": "/api/reporting/events",
    }
    assert (await unconnected_api.get("/api/ready")).status_code == 503


async def test_metering_out_of_reach_is_503(unconnected_api: Api) -> None:
    """NATS is asked, not guessed."""
    answer = await unconnected_api.get("/api/reporting/metering")

    assert answer.status_code == 503
    assert answer.json()["instance"] == "/api/reporting/metering"


def test_open_door_to_the_network_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a pass, loopback only; with one, anywhere."""
    monkeypatch.setenv("REPORTING_HOST", "0.0.0.0")
    monkeypatch.delenv("ADMIN_PASS", raising=False)

    with pytest.raises(BadSettings, match="ADMIN_PASS"):
        load_settings()
    monkeypatch.setenv("ADMIN_PASS", "x")
    assert load_settings().reporting_host == "0.0.0.0"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("localhost", True),
        ("::1", True),
        ("[::1]", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.example.org", False),
        ("", False),
    ],
)
def test_loopback_is_recognised(host: str, expected: bool) -> None:
    """A name that we cannot judge is not loopback."""
    assert is_loopback(host) is expected


def test_settings_hide_their_secrets() -> None:
    """A pass that is logged is no pass."""
    assert "pässword" not in str(msgspec.structs.asdict(NOWHERE))
