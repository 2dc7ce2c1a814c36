"""Usage of custom providers, counted where their operators say that text is."""

import msgspec
import pytest
from support.exchanges import body_of, exchange_of, sse_of

from contracts.exchange import TextPlaces
from contracts.meters import NO_USAGE, Evidence, Meter
from rating.count import usage_of

PLACES = TextPlaces("turns.#.say", "output.words", "piece")
ASK = {"turns": [{"say": "hello world"}, {"say": " hello world"}]}


def usage(response, places=PLACES, *, request=ASK, **members):
    event = exchange_of(request, response, operation="custom", path="/api/custom", **members)
    return usage_of(msgspec.structs.replace(event, text_places=places))


def test_text_at_the_places_is_counted():
    """Each of these words is a token; what is counted of a foreign format is an estimate."""
    found = usage({"output": {"words": "hello world hello"}, "more": "not counted"})

    assert found.quantities == {Meter.INPUT_UNCACHED: 4, Meter.OUTPUT_TEXT: 3}
    assert (found.input_tokens, found.output_tokens) == (4, 3)
    assert found.evidence is Evidence.ESTIMATED


def test_text_of_a_stream_is_joined_before_it_is_counted():
    """Pieces need not be tokens."""
    stream = sse_of({"piece": "hel"}, {"other": 1}, {"piece": "lo"}, {"piece": " world"})

    assert usage(stream, content_type="text/event-stream").output_tokens == 2


def test_what_the_provider_reports_wins():
    """Its own count is what it bills."""
    found = usage(
        {
            "output": {"words": "hello"},
            "usage": {"prompt_tokens": 70, "completion_tokens": 80},
        }
    )

    assert (found.input_tokens, found.output_tokens) == (70, 80)
    assert found.evidence is Evidence.REPORTED


@pytest.mark.parametrize(
    ("response", "members"),
    [
        ({"output": {}}, {}),
        (b"no json", {}),
        (body_of({"output": {"words": "hello"}}, whole_bytes=10_000), {}),
        ({"output": {"words": "hello"}}, {"request": {"turns": 1}}),
        ({"output": {"words": "hello"}}, {"status": 500}),
        (sse_of({"other": 1}), {"content_type": "text/event-stream"}),
    ],
)
def test_half_of_a_count_is_none(response, members):
    """Unknown is not zero."""
    assert usage(response, **members) == NO_USAGE


def test_a_place_that_cannot_be_looked_up_counts_nothing():
    """Nor does it stop the books."""
    assert usage({"output": {"words": "hello"}}, TextPlaces("#(", "output.words", "")) == NO_USAGE
