"""Any body survives both ways, and any chunking of a stream of events gives the same events."""

import itertools
import json
from collections.abc import Iterator
from http.client import HTTPConnection

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.echo_provider import EchoProvider
from support.programs import Gateway

from gateway.dispatch.relay import Transcript

KEY = "sk-any-body"
ANY = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
TYPES = [
    "application/json",
    "application/octet-stream",
    "audio/mpeg",
    "multipart/form-data; boundary=b",
    "application/jsonl",
    "text/plain",
    "x",
]
bodies = st.one_of(
    st.binary(max_size=200),
    st.binary(min_size=1, max_size=64).map(lambda some: some * 9_000),
    st.sampled_from([b"", b"\0", b"\r\n0\r\n\r\n", b"--b--\r\n", b"HTTP/1.1 200 OK\r\n\r\n"]),
)


@pytest.fixture(scope="module")
def client(gateway: Gateway, echo: EchoProvider) -> Iterator[HTTPConnection]:
    """A connection that is kept, so that no body may run into the next request."""
    gateway.key(KEY, gateway.setting(echo.url))
    connection = HTTPConnection("127.0.0.1", gateway.proxy_port, timeout=60)
    yield connection
    connection.close()


def pieces(body: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(body), *(place % (len(body) + 1) for place in places)})
    return [body[a:b] for a, b in itertools.pairwise(edges)]


@ANY
@given(
    bodies,
    bodies,
    st.sampled_from(TYPES),
    st.sampled_from(TYPES),
    st.booleans(),
    st.lists(st.integers(min_value=0), max_size=5),
)
def test_any_body_survives_both_ways(client, echo, up, down, sent, received, is_chunked, places):
    """Whatever it is called, with a length or in chunks."""
    echo.heard.clear()
    echo.tell(down, content_type=received)
    headers = {"authorization": f"Bearer {KEY}", "content-type": sent}
    parts = pieces(up, places) if is_chunked else up
    client.request(
        "POST",
        "/api/providers/openai/v1/files",
        iter(parts) if is_chunked else up,
        headers,
        encode_chunked=is_chunked,
    )
    answer = client.getresponse()
    content = answer.read()

    assert (answer.status, content) == (200, down)
    assert answer.headers["content-type"] == received
    [heard] = echo.heard
    assert (heard.body, heard.headers["content-type"]) == (up, sent)


def event(kind: str, data: object) -> bytes:
    return f"event: {kind}\ndata: {json.dumps(data)}\n\n".encode()


@st.composite
def anthropic_streams(draw: st.DrawFn) -> bytes:
    """A message of Anthropic's, with comments and pings between its events."""
    start = {
        "type": "message_start",
        "message": {"id": "m", "model": "c", "usage": {"input_tokens": 3, "output_tokens": 1}},
    }
    texts = draw(st.lists(st.text(max_size=20), max_size=5))
    between = st.sampled_from([b"", b": ping\n\n", event("ping", {"type": "ping"})])
    stream = event("message_start", start)
    for text in texts:
        delta = {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "text_delta", "text": text},
        }
        stream += draw(between) + event("content_block_delta", delta)
    end = {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn"},
        "usage": {"output_tokens": 7},
    }
    stream += event("message_delta", end) + event("message_stop", {"type": "message_stop"})
    return stream.replace(b"\n", b"\r\n") if draw(st.booleans()) else stream


@given(
    anthropic_streams(),
    st.lists(st.integers(min_value=0), max_size=12),
    st.sampled_from([1 << 20, 200]),
)
def test_any_chunking_of_anthropic_s_events_is_recorded_alike(stream, places, bytes_max):
    """The body, and the usage in its last event but one."""
    whole, cut = Transcript(bytes_max), Transcript(bytes_max)
    whole.add(stream)
    for piece in pieces(stream, places):
        cut.add(piece)

    assert cut.body() == whole.body()
    document = json.loads(cut.usage_document())
    assert document == json.loads(whole.usage_document())
    assert document["usage"]["output_tokens"] == 7
