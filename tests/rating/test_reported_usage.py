"""Usage as providers report it: disjoint, summing to the totals, and never a crash."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.exchanges import exchange_of, sse_of

from contracts.meters import INPUT_METERS, NO_USAGE, OUTPUT_METERS, Evidence, Meter, Usage
from rating.count import usage_of
from rating.usage_block import QUANTITY_MAX

REQUEST = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}]}


def usage_in(usage: Any, **document: Any) -> Usage:
    """The usage of an exchange whose JSON answer has this usage block and no text."""
    return usage_of(exchange_of(b"-", {"id": "r1", "model": "m1", "usage": usage, **document}))


def assert_sums(usage: Usage) -> None:
    for total, meters in (
        (usage.input_tokens, INPUT_METERS),
        (usage.output_tokens, OUTPUT_METERS),
    ):
        parts = [count for meter, count in usage.quantities.items() if meter in meters]
        assert all(part >= 0 for part in parts)
        assert (total is None and not parts) or total == sum(parts)


def test_chat_usage_is_split_into_disjoint_quantities() -> None:
    """Cached and audio tokens leave the uncached rest, reasoning leaves the text."""
    usage = usage_in(
        {
            "prompt_tokens": 100,
            "completion_tokens": 50,
            "total_tokens": 150,
            "prompt_tokens_details": {"cached_tokens": 64, "audio_tokens": 6},
            "completion_tokens_details": {
                "reasoning_tokens": 30,
                "audio_tokens": 5,
                "accepted_prediction_tokens": 1,
                "rejected_prediction_tokens": 2,
            },
        },
        service_tier="default",
    )
    assert usage == Usage(
        {
            Meter.CACHE_READ: 64,
            Meter.AUDIO_INPUT: 6,
            Meter.INPUT_UNCACHED: 30,
            Meter.REASONING: 30,
            Meter.AUDIO_OUTPUT: 5,
            Meter.OUTPUT_TEXT: 15,
        },
        100,
        50,
        Evidence.REPORTED,
        "m1",
        "r1",
        "default",
    )


def test_cached_audio_is_counted_once() -> None:
    """What was heard from the cache is neither plain cached text nor fresh audio."""
    usage = usage_in(
        {
            "input_tokens": 100,
            "output_tokens": 1,
            "input_token_details": {
                "cached_tokens": 60,
                "audio_tokens": 50,
                "cached_tokens_details": {"audio_tokens": 40, "text_tokens": 20},
            },
        }
    )
    assert usage.quantities[Meter.CACHE_AUDIO_READ] == 40
    assert usage.quantities[Meter.CACHE_READ] == 20
    assert usage.quantities[Meter.AUDIO_INPUT] == 10
    assert usage.quantities[Meter.INPUT_UNCACHED] == 30
    assert usage.evidence is Evidence.REPORTED


def test_embeddings_have_no_output() -> None:
    """Prompt and total alone: the output is zero, not unknown."""
    usage = usage_in({"prompt_tokens": 8, "total_tokens": 8})
    assert (usage.input_tokens, usage.output_tokens) == (8, 0)
    assert usage.quantities[Meter.OUTPUT_TEXT] == 0


def test_responses_usage_is_read_whole_and_from_the_last_event() -> None:
    """The same block at the top of a JSON answer and inside `response.completed`."""
    block = {
        "input_tokens": 36,
        "input_tokens_details": {"cached_tokens": 10},
        "output_tokens": 87,
        "output_tokens_details": {"reasoning_tokens": 80},
        "total_tokens": 123,
    }
    answer = {"id": "resp_1", "object": "response", "model": "m1", "usage": block}
    whole = usage_of(exchange_of(REQUEST, answer, path="/v1/responses"))
    event = {"type": "response.completed", "response": {**answer, "service_tier": "flex"}}
    streamed = usage_of(
        exchange_of(
            REQUEST, b"", content_type="text/event-stream", usage_document=event, path="/responses"
        )
    )
    assert whole.quantities == streamed.quantities
    assert whole.quantities == {
        Meter.CACHE_READ: 10,
        Meter.INPUT_UNCACHED: 26,
        Meter.REASONING: 80,
        Meter.OUTPUT_TEXT: 7,
    }
    assert (streamed.model_served, streamed.response_id) == ("m1", "resp_1")
    assert streamed.service_tier == "flex"


def test_image_tokens_are_kept_apart() -> None:
    """Picture models report tokens of text and of pictures on both sides."""
    usage = usage_in(
        {
            "input_tokens": 50,
            "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
            "output_tokens": 1056,
            "output_tokens_details": {"text_tokens": 0, "image_tokens": 1056},
        }
    )
    assert usage.quantities[Meter.IMAGE_INPUT] == 40
    assert usage.quantities[Meter.IMAGE_OUTPUT] == 1056
    assert_sums(usage)


@pytest.mark.parametrize(("seconds", "audio_ms"), [(12, 12_000), (1.5, 1_500), (0, 0)])
def test_transcriptions_are_metered_by_duration(seconds: float, audio_ms: int) -> None:
    """Models that bill by the minute report seconds and no tokens."""
    usage = usage_in({"type": "duration", "seconds": seconds})
    assert usage.quantities == {Meter.AUDIO_MS: audio_ms}
    assert (usage.input_tokens, usage.output_tokens) == (None, None)


def test_reasoning_beside_the_output_is_added_when_the_total_says_so() -> None:
    """Some providers leave reasoning out of the completion; their own total tells."""
    details = {"reasoning_tokens": 30}
    block = {"prompt_tokens": 10, "completion_tokens": 5, "completion_tokens_details": details}
    beside = usage_in({**block, "total_tokens": 45})
    assert (beside.output_tokens, beside.evidence) == (35, Evidence.REPORTED)
    assert beside.quantities[Meter.REASONING] == 30
    assert beside.quantities[Meter.OUTPUT_TEXT] == 5
    unnamed = usage_in({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 45})
    assert (unnamed.output_tokens, unnamed.evidence) == (35, Evidence.ESTIMATED)
    assert unnamed.quantities[Meter.REASONING] == 30


def test_parts_that_exceed_their_total_are_cut_and_marked() -> None:
    """The total stands, what does not fit is cut, and nobody reads it as reported."""
    usage = usage_in(
        {
            "prompt_tokens": 100,
            "completion_tokens": 10,
            "prompt_tokens_details": {"cached_tokens": 90, "audio_tokens": 30},
            "completion_tokens_details": {"reasoning_tokens": 50},
        }
    )
    assert (usage.input_tokens, usage.output_tokens) == (100, 10)
    assert usage.quantities == {
        Meter.CACHE_READ: 90,
        Meter.AUDIO_INPUT: 10,
        Meter.INPUT_UNCACHED: 0,
        Meter.REASONING: 10,
        Meter.OUTPUT_TEXT: 0,
    }
    assert usage.evidence is Evidence.ESTIMATED


def test_cached_tokens_beside_the_totals_are_seen() -> None:
    """Compatible providers have their own names for cached input."""
    for member in ("prompt_cache_hit_tokens", "cached_tokens"):
        usage = usage_in({"prompt_tokens": 100, "completion_tokens": 1, member: 40})
        assert usage.quantities[Meter.CACHE_READ] == 40
        assert usage.quantities[Meter.INPUT_UNCACHED] == 60


ANTHROPIC = {
    "input_tokens": 10,
    "cache_creation_input_tokens": 300,
    "cache_read_input_tokens": 2000,
    "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 200},
    "output_tokens": 50,
    "output_tokens_details": {"thinking_tokens": 20},
    "server_tool_use": {"web_search_requests": 3},
    "service_tier": "priority",
}
ANTHROPIC_QUANTITIES = {
    Meter.INPUT_UNCACHED: 10,
    Meter.CACHE_READ: 2000,
    Meter.CACHE_WRITE_5M: 100,
    Meter.CACHE_WRITE_1H: 200,
    Meter.REASONING: 20,
    Meter.OUTPUT_TEXT: 30,
    Meter.SEARCHES: 3,
}


def test_anthropic_counts_cached_input_beside_the_rest() -> None:
    """The prompt is what was read, written and neither; both lifetimes are kept apart."""
    usage = usage_in(ANTHROPIC, type="message")
    assert usage == Usage(ANTHROPIC_QUANTITIES, 2310, 50, Evidence.REPORTED, "m1", "r1", "priority")


def test_anthropic_streams_state_the_prompt_first_and_the_output_last() -> None:
    """Both halves merge into what the whole message would have said."""
    before = {k: v for k, v in ANTHROPIC.items() if not k.startswith("output") and k[0] != "s"}
    start = {
        "type": "message_start",
        "message": {
            "id": "r1",
            "type": "message",
            "model": "m1",
            "usage": {**before, "output_tokens": 1, "service_tier": "priority"},
        },
    }
    delta = {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn"},
        "usage": {
            "output_tokens": 50,
            "output_tokens_details": {"thinking_tokens": 20},
            "server_tool_use": {"web_search_requests": 3},
        },
    }
    usage = usage_of(
        exchange_of(
            REQUEST,
            b"event: message_start\n" + sse_of(start, delta, done=False),
            content_type="text/event-stream; charset=utf-8",
            usage_document=delta,
            path="/v1/messages",
        )
    )
    assert usage == Usage(ANTHROPIC_QUANTITIES, 2310, 50, Evidence.REPORTED, "m1", "r1", "priority")


def test_an_anthropic_stream_cut_before_its_end_keeps_the_reported_prompt() -> None:
    """The first event's output count is a placeholder: what was streamed is counted instead."""
    start = {
        "type": "message_start",
        "message": {
            "id": "r1",
            "model": "m1",
            "usage": {"input_tokens": 77, "output_tokens": 1, "cache_read_input_tokens": 5},
        },
    }
    text = {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "text_delta", "text": "one two three four five"},
    }
    usage = usage_of(
        exchange_of(
            REQUEST,
            sse_of(start, text, done=False),
            content_type="text/event-stream",
            usage_document=start,
            path="/v1/messages",
            outcome="client_left",
        )
    )
    assert (usage.input_tokens, usage.output_tokens) == (82, 5)
    assert usage.evidence is Evidence.ESTIMATED
    assert_sums(usage)


def test_anthropic_lifetimes_that_do_not_add_up_are_marked() -> None:
    """The total that was written stands; the dearer lifetime is taken first."""
    usage = usage_in(
        {
            "input_tokens": 1,
            "output_tokens": 1,
            "cache_creation_input_tokens": 100,
            "cache_creation": {"ephemeral_5m_input_tokens": 90, "ephemeral_1h_input_tokens": 60},
        }
    )
    assert usage.quantities[Meter.CACHE_WRITE_1H] == 60
    assert usage.quantities[Meter.CACHE_WRITE_5M] == 40
    assert (usage.input_tokens, usage.evidence) == (101, Evidence.ESTIMATED)


def test_fast_inference_is_a_tier() -> None:
    """A speed that has its own price is reported beside the tier."""
    usage = usage_in({**ANTHROPIC, "speed": "fast"}, type="message")
    assert usage.service_tier == "fast"


@pytest.mark.parametrize(
    "bad", [None, -1, 1.5, 12.0, "12", True, [], {}, QUANTITY_MAX + 1, 10**30, 1e300]
)
def test_a_number_that_is_no_quantity_is_unknown(bad: Any) -> None:
    """Null, fractions, negatives, texts and absurdities say nothing; the rest still counts."""
    assert usage_in({"prompt_tokens": bad, "completion_tokens": bad}) == NO_USAGE
    half = usage_in({"prompt_tokens": 5, "completion_tokens": bad})
    assert (half.input_tokens, half.output_tokens) == (5, None)
    details = usage_in(
        {
            "prompt_tokens": 5,
            "completion_tokens": 6,
            "prompt_tokens_details": {"cached_tokens": bad, "audio_tokens": 2},
        }
    )
    assert details.quantities[Meter.INPUT_UNCACHED] == 3
    assert Meter.CACHE_READ not in details.quantities


@pytest.mark.parametrize("bad", [None, 5, 1.5, True, [], {"a": 1}, ""])
def test_names_that_are_no_text_are_unknown(bad: Any) -> None:
    """Ids, models and tiers of any type spoil nothing else."""
    usage = usage_in(
        {"prompt_tokens": 5, "completion_tokens": 6}, id=bad, model=bad, service_tier=bad, type=bad
    )
    assert (usage.input_tokens, usage.output_tokens) == (5, 6)
    assert (usage.response_id, usage.model_served, usage.service_tier) == (None, None, None)


def test_long_names_are_cut() -> None:
    """A provider's name cannot grow the ledger without bound."""
    usage = usage_in({"prompt_tokens": 5, "completion_tokens": 6}, id="i" * 9999, model="m" * 9999)
    assert usage.response_id == "i" * 256
    assert usage.model_served == "m" * 256


@pytest.mark.parametrize(
    "answer",
    [b"", b"{", b"[]", b"null", b'{"usage":5}', b'{"usage":null}', b'{"usage":[1]}', b"\xff",
     b'{"usage":{}}', b'{"message":"no","usage":"x"}', b'{"response":7}', b"[" * 100_000,
     b'{"a":' * 100_000, b'{"usage":{"prompt_tokens":1' + b"0" * 5000 + b"}}"],
)  # fmt: skip
def test_answers_without_a_readable_usage_have_none(answer: bytes) -> None:
    """No usage is no evidence, and no exception."""
    assert usage_of(exchange_of(b"-", answer)) == NO_USAGE
    assert usage_of(exchange_of(b"-", answer, usage_document=answer)) == NO_USAGE


def test_an_error_that_reports_usage_keeps_it() -> None:
    """What the provider says it used is recorded whatever the status."""
    answer = {"error": {"message": "late"}, "usage": {"prompt_tokens": 5, "completion_tokens": 0}}
    assert usage_of(exchange_of(REQUEST, answer, status=500)).input_tokens == 5


numbers = st.one_of(
    st.integers(0, 1000), st.none(), st.integers(), st.floats(), st.booleans(), st.text(max_size=3)
)
details = st.dictionaries(
    st.sampled_from(
        ["cached_tokens", "audio_tokens", "image_tokens", "reasoning_tokens", "cache_write_tokens",
         "thinking_tokens", "ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"]
    ),
    numbers,
)  # fmt: skip
blocks = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(
            ["prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "output_tokens",
             "cache_read_input_tokens", "cache_creation_input_tokens", "cached_tokens", "seconds"],
            numbers,
        ),
        **dict.fromkeys(
            ["prompt_tokens_details", "completion_tokens_details", "input_tokens_details",
             "output_tokens_details", "cache_creation", "server_tool_use"],
            details | numbers,
        ),
        "iterations": numbers
        | st.lists(
            st.fixed_dictionaries(
                {"type": st.sampled_from(["compaction", "message", "advisor_message"]) | numbers},
                optional={
                    **dict.fromkeys(
                        ["input_tokens", "output_tokens", "cache_creation_input_tokens"], numbers
                    ),
                    "cache_creation": details | numbers,
                },
            ),
            max_size=3,
        ),
    },
)  # fmt: skip


@given(blocks, st.sampled_from([None, "message", "message_delta"]))
def test_quantities_sum_to_the_totals_whatever_is_reported(
    block: dict[str, Any], kind: str | None
) -> None:
    """Disjoint and complete for every side that is known, for any mixture of fields."""
    answer = json.dumps({"type": kind, "usage": block}).encode()
    assert_sums(usage_of(exchange_of(b"-", answer)))
