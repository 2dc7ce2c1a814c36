"""Streams in every dialect: whole ones as they are, broken ones said to be broken."""

import json
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse, IncompleteRead

import pytest
from support import loopback
from support.programs import Gateway

PATHS = {
    "/v1/chat/completions": {"model": "gpt-4o", "messages": []},
    "/v1/completions": {"model": "gpt-4o", "prompt": "a"},
    "/v1/responses": {"model": "gpt-4o", "input": "a"},
    "/v1/messages": {"model": "claude-sonnet-4-5", "messages": []},
    "/api/providers/anthropic/v1/messages": {"model": "claude-sonnet-4-5", "messages": []},
    "/api/providers/azure/openai/deployments/d/chat/completions?api-version=2024-10-21": {
        "model": "gpt-4o",
        "messages": [],
    },
}
KEY = "sk-streams"


@pytest.fixture(scope="module", autouse=True)
def key(gateway: Gateway, provider: str) -> None:
    """A key with a setting of three vendors, all of them the demo provider."""
    settings = [
        gateway.setting(
            provider,
            provider=name,
            setting={"apikey": "sk-upstream", "url": provider, "resourceName": "r"},
        )
        for name in ("openai", "anthropic", "azure")
    ]
    gateway.key(KEY, settings[0], settingIds=settings)


@pytest.fixture
def connection(gateway: Gateway) -> Iterator[HTTPConnection]:
    """A connection of its own, which the gateway may break."""
    connection = HTTPConnection("127.0.0.1", gateway.proxy_port, timeout=60)
    yield connection
    connection.close()


@pytest.fixture(scope="module")
def late(gateway: Gateway) -> Iterator[dict[str, HTTPConnection]]:
    """A stream of every path that outlasts its client's patience; all of them wait together."""
    connections = {
        path: HTTPConnection("127.0.0.1", gateway.proxy_port, timeout=60) for path in PATHS
    }
    headers = {"x-api-key": KEY, "x-request-timeout": "3s"}
    headers |= {"x-demo-chunks": "600", "x-demo-chunk-delay-ms": "100"}
    for path, connection in connections.items():
        connection.request("POST", path, json.dumps({**PATHS[path], "stream": True}), headers)
    yield connections
    for connection in connections.values():
        connection.close()


def ask(connection: HTTPConnection, path: str, **demo: str) -> HTTPResponse:
    headers = {f"x-demo-{name.replace('_', '-')}": value for name, value in demo.items()}
    body = json.dumps({**PATHS[path], "stream": True})
    connection.request("POST", path, body, {"x-api-key": KEY, **headers})
    return connection.getresponse()


@pytest.mark.parametrize("path", PATHS)
def test_a_whole_stream_ends_cleanly(connection, path):
    """With the dialect's own last event."""
    answer = ask(connection, path, chunks="5", usage="prompt=10,completion=5")
    text = answer.read().decode()

    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    last = {"/v1/responses": "response.completed", "messages": "message_stop"}
    wanted = next((event for end, event in last.items() if path.endswith(end)), "[DONE]")
    assert wanted in text.rstrip().rpartition("\n\n")[2]


@pytest.mark.parametrize("path", PATHS)
def test_a_stream_that_breaks_says_so_and_never_ends_cleanly(connection, path):
    """An error event of the dialect's is the last thing, and no last chunk follows it."""
    answer = ask(connection, path, chunks="8", chunk_delay_ms="20", cut="3")

    with pytest.raises(IncompleteRead) as caught:
        answer.read()

    events = caught.value.partial.decode().rstrip("\n").split("\n\n")
    *_, last = events
    if "messages" in path:
        assert last.startswith("event: error\ndata: ")
        shown = json.loads(last.partition("data: ")[2])
        assert (shown["type"], shown["error"]["type"]) == ("error", "api_error")
    elif path.endswith("/responses"):
        assert last.startswith("event: error\ndata: ")
        shown = json.loads(last.partition("data: ")[2])
        assert (shown["type"], shown["code"]) == ("error", "upstream_unavailable")
    else:
        shown = json.loads(last.removeprefix("data: "))["error"]
        assert (shown["type"], shown["code"]) == ("api_error", "upstream_unavailable")
    assert not any("[DONE]" in event or "message_stop" in event for event in events)


@pytest.mark.parametrize("path", PATHS)
def test_an_error_of_the_provider_s_in_a_stream_goes_on_as_it_is(connection, path):
    """It ends as the provider ended it; nothing of ours is added."""
    answer = ask(connection, path, chunks="8", error_after="3")
    text = answer.read().decode()

    assert "The demo provider was asked to fail here" in text.rstrip().rpartition("\n\n")[2]


@pytest.mark.parametrize("path", PATHS)
def test_an_exchange_that_takes_too_long_says_so_in_its_stream(late, path):
    """The client's own timeout, once something has gone out."""
    with pytest.raises(IncompleteRead) as caught:
        late[path].getresponse().read()

    assert b"did not answer in time" in caught.value.partial.rstrip().rpartition(b"\n\n")[2]


def test_a_provider_s_error_before_its_stream_is_an_answer(gateway):
    """Status, body and Retry-After as they came, in Anthropic's shape."""
    answer = loopback.post(
        f"{gateway.proxy_url}/v1/messages",
        json={**PATHS["/v1/messages"], "stream": True},
        headers={"x-api-key": KEY, "x-demo-status": "529"},
    )

    assert answer.status_code == 529
    assert answer.json()["error"]["type"] == "overloaded_error"
