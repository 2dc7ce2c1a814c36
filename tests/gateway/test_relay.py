"""Streams on their way down: stripping, recording, and any chunking of the same bytes."""

import itertools
import json
from hashlib import sha256

from hypothesis import given
from hypothesis import strategies as st

from gateway.dispatch import sse
from gateway.dispatch.relay import Transcript, UsageStripper

USAGE = '{"id":"c","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}'


def event(data: str, newline: str = "\n") -> bytes:
    return f"data: {data}{newline}{newline}".encode()


def chunk(text: str) -> str:
    return json.dumps({"id": "c", "choices": [{"delta": {"content": text}}], "usage": None})


@st.composite
def streams(draw):
    """A stream with one usage event, and the same without it."""
    newline = draw(st.sampled_from(["\n", "\r\n"]))
    texts = draw(st.lists(st.text(), max_size=5))
    before = b"".join(event(chunk(text), newline) for text in texts)
    done = draw(st.sampled_from([event("[DONE]", newline), b": comment\n\n", b""]))
    return before + event(USAGE, newline) + done, before + done


def cut(content: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(content), *(place % (len(content) + 1) for place in places)})
    return [content[a:b] for a, b in itertools.pairwise(edges)]


@given(streams(), st.lists(st.integers(min_value=0), max_size=12))
def test_stripping_gives_the_same_bytes_for_any_chunking(stream, places):
    """Only the usage event is missing, wherever the network cut the stream."""
    sent, wanted = stream
    stripper = UsageStripper(1 << 20)

    got = b"".join(stripper.feed(piece) for piece in cut(sent, places)) + stripper.finish()

    assert got == wanted
    assert stripper.document == USAGE.encode()


@given(streams(), st.lists(st.integers(min_value=0), max_size=12))
def test_nothing_but_an_unfinished_event_is_held_back(stream, places):
    """At every moment, all complete events but the usage event have gone out."""
    sent, _ = stream
    stripper = UsageStripper(1 << 20)
    seen = out = b""
    for piece in cut(sent, places):
        seen += piece
        out += stripper.feed(piece)

        complete = seen[: sse.last_event_end(seen)]
        assert out == sse.without_usage_event(complete)[0]


def test_an_endless_event_is_not_held_for_ever():
    """Past the limit an unfinished event goes on as it is."""
    stripper = UsageStripper(10)

    assert stripper.feed(b"data: " + b"x" * 100) == b"data: " + b"x" * 100


@given(streams(), st.lists(st.integers(min_value=0), max_size=12))
def test_transcript_finds_the_usage_of_an_unstripped_stream(stream, places):
    """The provider's own words are recorded whole, and its usage document is found."""
    sent, _ = stream
    transcript = Transcript(1 << 20)
    for piece in cut(sent, places):
        transcript.add(piece)

    body = transcript.body()
    assert (body.content, body.length_bytes, body.sha256) == (sent, len(sent), None)
    assert transcript.usage_document() == USAGE.encode()


@given(st.binary(min_size=1, max_size=400), st.lists(st.integers(min_value=0), max_size=8))
def test_a_long_stream_is_recorded_as_head_length_and_hash(content, places):
    """Past the limit the event keeps the head, and the whole one's length and SHA-256."""
    transcript = Transcript(64)
    for piece in cut(content, places):
        transcript.add(piece)

    body = transcript.body()
    is_cut = len(content) > 64
    assert body.content == content[:64]
    assert body.length_bytes == len(content)
    assert body.sha256 == (sha256(content).digest() if is_cut else None)


def test_a_cut_transcript_still_finds_the_usage_at_the_end():
    """What the bill needs is at the end, and survives the cut."""
    transcript = Transcript(64)
    for number in range(100):
        transcript.add(event(chunk(f"token {number}")))
    transcript.add(event(USAGE) + event("[DONE]"))

    assert transcript.usage_document() == USAGE.encode()


def test_text_that_quotes_usage_is_not_taken_for_usage():
    """A model that writes JSON about usage does not write its own bill."""
    transcript = Transcript(1 << 20)
    transcript.add(event(chunk('{"usage": {"prompt_tokens": 1}}')))

    assert transcript.usage_document() is None
