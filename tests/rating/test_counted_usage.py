"""Usage that nobody reported: counted, and graded by how well it can be known."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.exchanges import body_of, exchange_of, sse_of

from contracts.meters import NO_USAGE, Evidence, Meter, Usage
from rating.count import is_billable, usage_of
from rating.tokenizers import count_tokens

SSE = "text/event-stream; charset=utf-8"
HELLO = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Say hello, please."}]}


def piece(**delta: Any) -> dict[str, Any]:
    return {
        "id": "c1",
        "model": "gpt-4o-2024-08-06",
        "choices": [{"index": 0, "delta": delta, "finish_reason": None}],
    }


def last(reason: str = "stop") -> dict[str, Any]:
    return {"id": "c1", "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}


def answer_of(content: str, **message: Any) -> dict[str, Any]:
    return {
        "id": "c1",
        "model": "gpt-4o-2024-08-06",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": content, **message},
                "finish_reason": "stop",
            }
        ],
    }


def o200k(text: str) -> int:
    return count_tokens([text], "o200k_base")


def test_a_plain_chat_is_counted_exactly() -> None:
    """Three tokens a message, role and content, three to prime the answer; the answer's text."""
    usage = usage_of(exchange_of(HELLO, answer_of("Hello! How can I help?")))
    assert usage == Usage(
        {
            Meter.INPUT_UNCACHED: 3 + 3 + 1 + o200k("Say hello, please."),
            Meter.OUTPUT_TEXT: o200k("Hello! How can I help?"),
        },
        3 + 3 + 1 + o200k("Say hello, please."),
        o200k("Hello! How can I help?"),
        Evidence.COUNTED,
        "gpt-4o-2024-08-06",
        "c1",
        None,
    )


def test_a_published_example_counts_as_published() -> None:
    """The messages and the 129 (cl100k) and 124 (o200k) tokens of OpenAI's own counting guide."""
    pattern = "You are a helpful, pattern-following assistant that translates corporate jargon into plain English."
    messages = [
        {"role": "system", "content": pattern},
        {"role": "system", "name": "example_user", "content": "New synergies will help drive top-line growth."},
        {"role": "system", "name": "example_assistant", "content": "Things working well together will increase revenue."},
        {"role": "system", "name": "example_user", "content": "Let's circle back when we have more bandwidth to touch base on opportunities for increased leverage."},
        {"role": "system", "name": "example_assistant", "content": "Let's talk later when we're less busy about how to do better."},
        {"role": "user", "content": "This late pivot means we don't have time to boil the ocean for the client deliverable."},
    ]  # fmt: skip
    for model, tokens in (("gpt-4-0613", 129), ("gpt-3.5-turbo", 129), ("gpt-4o", 124)):
        request = {"model": model, "messages": messages}
        response = {**answer_of("ok"), "model": model}
        assert usage_of(exchange_of(request, response, model=model)).input_tokens == tokens


def test_a_stream_is_joined_before_it_is_counted() -> None:
    """Pieces that cut through tokens count as the text they make."""
    pieces = ["Inter", "nation", "alisation", " is", " a", " long", " wo", "rd."]
    stream = sse_of(*(piece(content=text) for text in pieces), last())
    usage = usage_of(exchange_of(HELLO, stream, content_type=SSE))
    assert usage.output_tokens == o200k("".join(pieces)) < len(pieces)
    assert usage.evidence is Evidence.COUNTED
    assert usage.response_id == "c1"


def test_choices_are_counted_apart() -> None:
    """Two answers are two texts, whichever order their pieces come in."""
    stream = sse_of(
        {"choices": [{"index": 1, "delta": {"content": "inter"}}]},
        {"choices": [{"index": 0, "delta": {"content": "nation"}}]},
        {"choices": [{"index": 1, "delta": {"content": "nal"}}]},
        {"choices": [{"index": 0, "delta": {"content": "al"}, "finish_reason": "stop"}]},
        {"choices": [{"index": 1, "delta": {}, "finish_reason": "stop"}]},
    )
    usage = usage_of(exchange_of(HELLO, stream, content_type=SSE))
    assert usage.output_tokens == o200k("internal") + o200k("national")


@pytest.mark.parametrize("index", [None, "x", 1.5, True, {"a": 1}, [1]])
def test_an_index_of_any_kind_spoils_nothing(index: Any) -> None:
    """Places that a provider numbers strangely still hold text and calls."""
    call = {"index": index, "id": index, "function": {"name": "f", "arguments": "{}"}}
    stream = sse_of(
        {"choices": [{"index": index, "delta": {"content": "one two", "tool_calls": [call]}}]}
    )
    usage = usage_of(exchange_of(HELLO, stream, content_type=SSE))
    assert usage.output_tokens == 2 + o200k("f") + o200k("{}")


def test_blank_lines_before_an_answer_are_no_obstacle() -> None:
    """Some providers send them to keep the connection alive."""
    content = b"\n\n\n" + msgspec.json.encode(
        {**answer_of("x"), "usage": {"prompt_tokens": 9, "completion_tokens": 4}}
    )
    assert usage_of(exchange_of(HELLO, content)).evidence is Evidence.REPORTED


@pytest.mark.parametrize("outcome", ["client_left", "upstream_failed"])
def test_a_stream_that_was_cut_counts_what_was_streamed(outcome: str) -> None:
    """What arrived is counted; that there was no more is not known, so it is estimated."""
    stream = sse_of(piece(content="one two"), piece(content=" three"), done=False)
    torn = stream + b'data: {"choices":[{"index":0,"delta":{"content":" fo'
    for content in (stream, torn):
        usage = usage_of(exchange_of(HELLO, content, content_type=SSE, outcome=outcome))
        assert usage.output_tokens == 3
        assert usage.evidence is Evidence.ESTIMATED


def test_a_stream_without_a_piece_has_used_its_prompt() -> None:
    """The client left before the first token: input is known, output was none."""
    usage = usage_of(exchange_of(HELLO, b"", content_type=SSE, outcome="client_left"))
    assert usage.input_tokens == 3 + 3 + 1 + o200k("Say hello, please.")
    assert usage.output_tokens == 0
    assert usage.evidence is Evidence.ESTIMATED


def test_usage_inside_a_stream_is_found_even_if_nobody_set_it_apart() -> None:
    """A replay of an event whose usage was overlooked reports it."""
    block = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
    stream = sse_of(piece(content="x"), {"id": "c1", "choices": [], "usage": block})
    usage = usage_of(exchange_of(HELLO, stream, content_type=SSE))
    assert (usage.input_tokens, usage.output_tokens) == (9, 4)
    assert usage.evidence is Evidence.REPORTED


def test_a_half_reported_usage_is_completed() -> None:
    """The side that was stated stands, the other is counted, the grade is the weaker one."""
    response = {**answer_of("Hello!"), "usage": {"prompt_tokens": 500, "completion_tokens": None}}
    usage = usage_of(exchange_of(HELLO, response))
    assert (usage.input_tokens, usage.output_tokens) == (500, o200k("Hello!"))
    assert usage.evidence is Evidence.COUNTED


@pytest.mark.parametrize(
    ("request_change", "message_change"),
    [
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, {}),
        ({"functions": [{"name": "f"}]}, {}),
        ({"response_format": {"type": "json_object"}}, {}),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"},
                                                    {"type": "text", "text": "b"}]}]}, {}),
        ({"messages": [{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": "data:x"}}]}]}, {}),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, {}),
        ({"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}]}, {}),
        ({}, {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "{}"}}]}),
        ({}, {"function_call": {"name": "f", "arguments": "{}"}}),
        ({}, {"reasoning_content": "hm"}),
        ({}, {"refusal": None, "audio": {"data": "x"}}),
        ({"model": "some-local-model"}, {}),
    ],
)  # fmt: skip
def test_what_is_more_than_plain_text_is_estimated(
    request_change: dict[str, Any], message_change: dict[str, Any]
) -> None:
    """Tools, pictures, sounds, schemas and unknown vocabularies are never called counted."""
    request = {**HELLO, **request_change}
    response = {**answer_of("ok", **message_change), "model": request["model"]}
    usage = usage_of(exchange_of(request, response, model=str(request["model"])))
    assert usage.evidence is Evidence.ESTIMATED
    assert usage.input_tokens is not None
    assert usage.input_tokens > 4


@pytest.mark.parametrize(
    ("model", "evidence"),
    [
        ("gpt-4o", Evidence.COUNTED),
        ("openai/gpt-4o-mini", Evidence.COUNTED),
        ("ft:gpt-4o-mini-2024-07-18:acme::id", Evidence.COUNTED),
        ("chatgpt-4o-latest", Evidence.COUNTED),
        ("gpt-4.1-nano", Evidence.COUNTED),
        ("gpt-4-turbo", Evidence.COUNTED),
        ("gpt-35-turbo", Evidence.COUNTED),
        ("gpt-4o-audio-preview", Evidence.ESTIMATED),
        ("gpt-4o-search-preview", Evidence.ESTIMATED),
        ("o3-mini", Evidence.ESTIMATED),
        ("gpt-5", Evidence.ESTIMATED),
        ("gpt-oss-120b", Evidence.ESTIMATED),
        ("claude-sonnet-4-5", Evidence.ESTIMATED),
        ("llama-3.1-8b", Evidence.ESTIMATED),
    ],
)
def test_counted_needs_the_models_own_vocabulary(model: str, evidence: Evidence) -> None:
    """Models that think in secret, hear or search cannot be counted from outside."""
    response = {**answer_of("Hello!"), "model": model}
    assert usage_of(exchange_of({**HELLO, "model": model}, response)).evidence is evidence


def test_pictures_and_tool_calls_are_put_where_they_are_priced() -> None:
    """A picture is image input, called functions are output, visible thought is reasoning."""
    picture = {"type": "image_url", "image_url": {"url": "data:x", "detail": "low"}}
    request = {**HELLO, "messages": [{"role": "user", "content": [picture]}]}
    call = {"index": 0, "function": {"name": "weather", "arguments": '{"city":'}}
    more = {"index": 0, "function": {"arguments": '"Oslo"}'}}
    stream = sse_of(
        piece(reasoning_content="let me"), piece(reasoning_content=" think"),
        piece(tool_calls=[call]), piece(tool_calls=[more]), last("tool_calls"),
    )  # fmt: skip
    usage = usage_of(exchange_of(request, stream, content_type=SSE))
    assert usage.quantities[Meter.IMAGE_INPUT] == 85
    assert usage.quantities[Meter.REASONING] == o200k("let me think")
    assert usage.quantities[Meter.OUTPUT_TEXT] == o200k("weather") + o200k('{"city":"Oslo"}')


@pytest.mark.parametrize(
    ("given", "tokens"),
    [
        ("hello world", 2),
        (["hello world", "hello world"], 4),
        ([1, 2, 3], 3),
        ([[1, 2, 3], [4]], 4),
    ],
)
def test_embeddings_count_their_input(given: Any, tokens: int) -> None:
    """A text, texts or tokens; nothing comes out."""
    usage = usage_of(
        exchange_of(
            {"model": "text-embedding-3-small", "input": given},
            {"object": "list", "model": "text-embedding-3-small", "data": [{"embedding": [0.1]}]},
            path="/v1/embeddings",
            operation="embeddings",
            model="text-embedding-3-small",
        )
    )
    assert (usage.input_tokens, usage.output_tokens) == (tokens, 0)
    assert usage.evidence is Evidence.COUNTED


def test_completions_count_prompt_and_text() -> None:
    """The older dialect has no frame around its text."""
    usage = usage_of(
        exchange_of(
            {"model": "gpt-3.5-turbo-instruct", "prompt": "hello world"},
            {"model": "gpt-3.5-turbo-instruct",
             "choices": [{"index": 0, "text": "hello world", "finish_reason": "stop"}]},
            path="/v1/completions",
            operation="text_completion",
        )
    )  # fmt: skip
    assert (usage.input_tokens, usage.output_tokens) == (2, 2)
    assert usage.evidence is Evidence.COUNTED


def test_responses_and_messages_are_estimated() -> None:
    """Their frame is not documented, or their vocabulary is not public."""
    response = {
        "id": "r", "object": "response", "model": "gpt-4o",
        "output": [{"type": "message", "content": [{"type": "output_text", "text": "hello world"}]}],
    }  # fmt: skip
    request = {
        "model": "gpt-4o",
        "instructions": "be brief",
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}],
    }
    usage = usage_of(exchange_of(request, response, path="/v1/responses", operation="responses"))
    assert (usage.output_tokens, usage.evidence) == (2, Evidence.ESTIMATED)
    events = sse_of(
        {"type": "response.created", "response": {"id": "r", "model": "gpt-4o"}},
        {"type": "response.output_text.delta", "output_index": 0, "delta": "hello"},
        {"type": "response.output_text.delta", "output_index": 0, "delta": " world"},
        done=False,
    )
    usage = usage_of(exchange_of(request, events, content_type=SSE, path="/v1/responses"))
    assert (usage.output_tokens, usage.response_id) == (2, "r")
    message = {"type": "message", "id": "m", "content": [{"type": "text", "text": "hello world"}]}
    usage = usage_of(exchange_of({**HELLO, "system": "be brief"}, message, path="/v1/messages"))
    assert (usage.output_tokens, usage.evidence) == (2, Evidence.ESTIMATED)


def test_bodies_that_were_cut_are_estimated_in_proportion() -> None:
    """The head of a body stands for the whole, and is never called counted."""
    text = "hello world " * 1000
    whole = msgspec.json.encode({**HELLO, "messages": [{"role": "user", "content": text}]})
    head = body_of(whole[: len(whole) // 2], whole_bytes=len(whole))
    usage = usage_of(exchange_of(head, answer_of("ok")))
    exact = usage_of(exchange_of(whole, answer_of("ok")))
    assert usage.evidence is Evidence.ESTIMATED
    assert usage.input_tokens is not None
    assert exact.input_tokens is not None
    assert abs(usage.input_tokens - exact.input_tokens) < exact.input_tokens * 0.02
    stream = sse_of(*(piece(content=" word") for _ in range(100)), last())
    cut = body_of(stream[: len(stream) // 2], whole_bytes=len(stream))
    usage = usage_of(exchange_of(HELLO, cut, content_type=SSE))
    assert usage.output_tokens is not None
    assert 90 <= usage.output_tokens <= 110
    assert usage.evidence is Evidence.ESTIMATED


@pytest.mark.parametrize(
    "change",
    [
        {"status": 400},
        {"status": 500},
        {"status": None},
        {"method": "GET"},
        {"path": "/v1/models", "operation": ""},
        {"path": "/v1/files", "operation": ""},
        {"request": b"not json"},
        {"request": b"{}"},
        {"response": b"\x1f\x8b\x08\x00compressed", "content_type": "application/json"},
        {"response": b"", "content_type": "application/json"},
        {"response": b"{}"},
        {"response": b"RIFF", "content_type": "audio/wav"},
    ],
)
def test_what_cannot_be_counted_has_no_usage(change: dict[str, Any]) -> None:
    """Errors, lists and unreadable bodies: nothing is known, and nothing is zero."""
    arguments = {"request": HELLO, "response": answer_of("ok"), **change}
    assert usage_of(exchange_of(**arguments)) == NO_USAGE


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, True),
        ({"status": 201}, True),
        ({"outcome": "client_left"}, True),
        ({"outcome": "upstream_failed"}, True),
        ({"status": 429}, False),
        ({"status": 302}, False),
        ({"status": 500, "outcome": "upstream_failed"}, False),
        ({"status": None, "outcome": "upstream_failed"}, False),
        ({"status": None, "outcome": "timed_out"}, True),
        ({"status": None, "outcome": "client_left"}, True),
        ({"outcome": "refused"}, False),
        ({"attempts": 0}, False),
        ({"method": "GET", "path": "/v1/models"}, False),
    ],
)
def test_a_provider_bills_what_it_answered(change: dict[str, Any], expected: bool) -> None:
    """The last attempt's own status decides; where nobody knows, it is billable and unknown."""
    assert is_billable(exchange_of(HELLO, answer_of("ok"), **change)) is expected


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(
            ["choices", "delta", "message", "content", "text", "type", "index", "tool_calls",
             "function", "arguments", "name", "role", "messages", "input", "prompt", "usage", "id",
             "response", "output", "summary", "content_block", "prompt_tokens", "image_url", "tools"]
        ),
        inner,
        max_size=5,
    ),
    max_leaves=25,
)  # fmt: skip
bodies = st.one_of(
    st.binary(max_size=100),
    json_values.map(lambda value: json.dumps(value).encode()),
    st.lists(json_values, max_size=3).map(
        lambda values: b"".join(
            b"data: " + json.dumps(value).encode() + b"\n\n" for value in values
        )
    ),
)


@given(
    bodies,
    bodies,
    st.none() | bodies,
    st.sampled_from([SSE, "application/json", "", "audio/wav"]),
    st.booleans(),
    st.sampled_from(["/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1/models"]),
)
def test_no_body_raises(
    request: bytes,
    response: bytes,
    usage_document: bytes | None,
    content_type: str,
    is_cut: bool,
    path: str,
) -> None:
    """Whatever clients and providers send, counting ends in a usage whose parts are quantities."""
    whole = 10**6 if is_cut else None
    usage = usage_of(
        exchange_of(
            body_of(request, whole_bytes=whole),
            body_of(response, whole_bytes=whole),
            content_type=content_type,
            usage_document=usage_document,
            path=path,
        )
    )
    assert all(type(count) is int and count >= 0 for count in usage.quantities.values())
    assert (usage.evidence is Evidence.NONE) == (usage == NO_USAGE)
