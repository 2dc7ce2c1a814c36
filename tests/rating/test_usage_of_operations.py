"""One small answer of every operation and vendor, as the public APIs describe them, to its bill.

Streams go through the gateway's own transcript, so that what it sets apart is what is read here.
"""

import json
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec
import pytest
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import Usage as SourceUsage
from hypothesis import given
from hypothesis import strategies as st
from support.exchanges import body_of, exchange_of

from contracts.exchange import Attempt, ExchangeCompleted, SettingRef
from contracts.ledger import RatingStatus
from contracts.meters import INPUT_METERS, NO_USAGE, OUTPUT_METERS, Evidence, Meter, Usage
from gateway.dispatch.relay import Transcript
from gateway.endpoints.registry import Registry
from gateway.providers.registry import PROVIDERS
from metering.pipeline import Pipeline
from metering.ports import Chargeable, Manifest
from rating.count import is_billable, usage_of
from rating.price_book import PriceBook
from rating.usage_media import model_in_form

REGISTRY = Registry((one.name, one.dialect) for one in PROVIDERS.values())
IN, OUT = Meter.INPUT_UNCACHED, Meter.OUTPUT_TEXT
READ, THOUGHT = Meter.CACHE_READ, Meter.REASONING


class Case(NamedTuple):
    """An answer and what is read of it; `usd` is its price in USD, None for no known price."""

    name: str
    path: str
    model: str | None
    answer: Any
    quantities: dict[Meter, int]
    usd: str | None
    provider: str = "openai"
    request: Any = b"-"
    method: str = "POST"
    evidence: Evidence = Evidence.REPORTED
    status: RatingStatus = RatingStatus.RATED
    media_type: str = ""


def events(*documents: Any, named: bool = False, done: bool = False) -> bytes:
    """A stream of server-sent events."""
    parts = []
    for each in documents:
        name = f"event: {each['type']}\n" if named else ""
        parts.append(f"{name}data: {json.dumps(each)}\n\n")
    return "".join([*parts, "data: [DONE]\n\n" if done else ""]).encode()


def form(model: str) -> bytes:
    """A multipart form with a file and a model."""
    return (
        b'--xYz\r\nContent-Disposition: form-data; name="file"; filename="a.mp3"\r\n'
        b"Content-Type: audio/mpeg\r\n\r\n\xff\xfb\x90model\r\n"
        b'--xYz\r\nContent-Disposition: form-data; name="model"\r\n\r\n'
        + model.encode()
        + b"\r\n--xYz--\r\n"
    )


CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "gpt-4o-2024-08-06",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}}],
}
CHAT_USAGE = {
    "prompt_tokens": 1000,
    "completion_tokens": 100,
    "total_tokens": 1100,
    "prompt_tokens_details": {"cached_tokens": 400, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
}
CHAT_QUANTITIES = {
    READ: 400,
    Meter.AUDIO_INPUT: 0,
    IN: 600,
    THOUGHT: 0,
    Meter.AUDIO_OUTPUT: 0,
    OUT: 100,
}
CHUNK = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "gpt-4o-2024-08-06"}
RESPONSE_USAGE = {
    "input_tokens": 36,
    "input_tokens_details": {"cached_tokens": 6},
    "output_tokens": 87,
    "output_tokens_details": {"reasoning_tokens": 64},
    "total_tokens": 123,
}
RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "status": "completed",
    "model": "gpt-4o-2024-08-06",
    "output": [{"type": "message", "content": [{"type": "output_text", "text": "Hi"}]}],
    "service_tier": "default",
    "usage": RESPONSE_USAGE,
}
RESPONSE_QUANTITIES = {READ: 6, IN: 30, THOUGHT: 64, OUT: 23}
RESPONSE_USD = "0.0009525"
WITHOUT_USAGE = {**RESPONSE, "usage": None, "output": []}
IMAGE_USAGE = {
    "total_tokens": 1150,
    "input_tokens": 94,
    "output_tokens": 1056,
    "input_tokens_details": {"text_tokens": 50, "image_tokens": 44},
}
IMAGE_QUANTITIES = {Meter.IMAGE_INPUT: 44, IN: 50, Meter.IMAGE_OUTPUT: 1056}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-5-20250929",
    "content": [{"type": "text", "text": "Hi"}],
}
MESSAGE_USAGE = {
    "input_tokens": 100,
    "cache_creation_input_tokens": 300,
    "cache_read_input_tokens": 2000,
    "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 200},
    "output_tokens": 50,
    "server_tool_use": {"web_search_requests": 2},
    "service_tier": "standard",
}
MESSAGE_QUANTITIES = {
    IN: 100,
    READ: 2000,
    Meter.CACHE_WRITE_5M: 100,
    Meter.CACHE_WRITE_1H: 200,
    OUT: 50,
    Meter.SEARCHES: 2,
}
MESSAGE_STREAM = events(
    {
        "type": "message_start",
        "message": {
            **MESSAGE,
            "content": [],
            "usage": {**MESSAGE_USAGE, "output_tokens": 1, "server_tool_use": None},
        },
    },
    {"type": "ping"},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}},
    {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn"},
        "usage": {"output_tokens": 50, "server_tool_use": {"web_search_requests": 2}},
    },
    {"type": "message_stop"},
    named=True,
)
MESSAGE_USD = "0.023225"
RUN = {"id": "run_1", "object": "thread.run", "model": "gpt-4o", "usage": None}
STEP = {"id": "step_1", "object": "thread.run.step"}
RUN_USAGE = {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30}
PLAIN = {IN: 20, OUT: 10}
RUNS = "/v1/threads/:thread_id/runs".replace(":thread_id", "thread_1")

CASES = [
    Case("chat", "/v1/chat/completions", "gpt-4o", {**CHAT, "usage": CHAT_USAGE}, CHAT_QUANTITIES, "0.003"),
    Case(
        "chat stream",
        "/v1/chat/completions",
        "gpt-4o",
        events(
            {**CHUNK, "choices": [{"index": 0, "delta": {"content": "Hi"}}], "usage": None},
            {**CHUNK, "choices": [], "usage": CHAT_USAGE},
            done=True,
        ),
        CHAT_QUANTITIES,
        "0.003",
    ),
    Case(
        "completion",
        "/v1/completions",
        "gpt-3.5-turbo-instruct",
        {"id": "cmpl-1", "model": "gpt-3.5-turbo-instruct", "choices": [], "usage": RUN_USAGE},
        PLAIN,
        "0.00005",
    ),
    Case(
        "embeddings",
        "/v1/embeddings",
        "text-embedding-3-small",
        {"object": "list", "data": [], "model": "text-embedding-3-small", "usage": {"prompt_tokens": 8, "total_tokens": 8}},
        {IN: 8, OUT: 0},
        "0.00000016",
    ),
    Case("response", "/v1/responses", "gpt-4o", RESPONSE, RESPONSE_QUANTITIES, RESPONSE_USD),
    *(
        Case(
            f"response stream {state}",
            "/v1/responses",
            "gpt-4o",
            events(
                {"type": "response.created", "response": {**WITHOUT_USAGE, "status": "in_progress", "tools": [{"parameters": {"properties": {"usage": {"type": "string"}}}}]}},
                {"type": "response.output_text.delta", "output_index": 0, "delta": "Hi"},
                {"type": f"response.{state}", "response": {**RESPONSE, "status": state}},
                named=True,
            ),
            RESPONSE_QUANTITIES,
            RESPONSE_USD,
        )
        for state in ("completed", "incomplete", "failed")
    ),
    Case(
        "response with searches",
        "/v1/responses",
        "gpt-4o",
        {
            **RESPONSE,
            "output": [
                {"type": "web_search_call", "status": "completed", "action": {"type": "search"}},
                {"type": "web_search_call", "status": "completed", "action": {"type": "open_page"}},
                {"type": "web_search_call", "status": "failed", "action": {"type": "search"}},
                {"type": "file_search_call", "status": "completed"},
                *RESPONSE["output"],  # type: ignore[misc]
            ],
        },
        {Meter.SEARCHES: 1, Meter.FILE_SEARCHES: 1, **RESPONSE_QUANTITIES},
        "0.0134525",
    ),
    Case(
        "response with a picture",
        "/v1/responses",
        "gpt-4o",
        events(
            {"type": "response.completed", "response": {**RESPONSE, "output": [{"type": "image_generation_call", "status": "completed", "result": "iVBO"}]}},
            named=True,
        ),
        {Meter.IMAGES: 1, **RESPONSE_QUANTITIES},
        None,
        status=RatingStatus.UNPRICED,
    ),
    Case(
        "response in the background",
        "/v1/responses",
        "gpt-4o",
        {**WITHOUT_USAGE, "status": "queued"},
        {},
        None,
        request={"model": "gpt-4o", "input": "Hi", "background": True},
        evidence=Evidence.NONE,
        status=RatingStatus.UNKNOWN,
    ),
    Case("stored response", "/v1/responses/resp_1", None, RESPONSE, {}, "0", method="GET", evidence=Evidence.NONE, status=RatingStatus.NOT_BILLABLE),
    Case("cancelled response", "/v1/responses/resp_1/cancel", None, RESPONSE, {}, "0", evidence=Evidence.NONE, status=RatingStatus.NOT_BILLABLE),
    Case("compaction", "/v1/responses/compact", "gpt-4o", {"id": "resp_1", "object": "response.compaction", "output": [], "usage": RESPONSE_USAGE}, RESPONSE_QUANTITIES, RESPONSE_USD),
    Case("input tokens", "/v1/responses/input_tokens", "gpt-4o", {"object": "response.input_tokens", "input_tokens": 11}, {}, "0", evidence=Evidence.NONE, status=RatingStatus.NOT_BILLABLE),
    Case("moderation", "/v1/moderations", "omni-moderation-latest", {"id": "modr-1", "model": "omni-moderation-latest", "results": []}, {}, "0", evidence=Evidence.NONE, status=RatingStatus.NOT_BILLABLE),
    Case("image by tokens", "/v1/images/generations", "gpt-image-1.5", {"created": 1, "data": [{"b64_json": "iVBO"}], "usage": IMAGE_USAGE}, IMAGE_QUANTITIES, "0.034394"),
    Case(
        "image with tokens of both kinds",
        "/v1/images/edits",
        "gpt-image-1.5",
        {"data": [{}], "usage": {**IMAGE_USAGE, "output_tokens_details": {"image_tokens": 1000, "text_tokens": 56}, "input_tokens_details": {"text_tokens": 50, "image_tokens": 44, "cached_tokens": 50, "cached_tokens_details": {"image_tokens": 40, "text_tokens": 10}}}},
        {Meter.CACHE_IMAGE_READ: 40, READ: 10, Meter.IMAGE_INPUT: 4, IN: 40, Meter.IMAGE_OUTPUT: 1000, OUT: 56},
        "0.0328845",
    ),
    Case(
        "image stream",
        "/v1/images/edits",
        None,
        events(
            {"type": "image_edit.partial_image", "b64_json": "iV", "partial_image_index": 0},
            {"type": "image_edit.completed", "b64_json": "iVBO", "usage": IMAGE_USAGE},
            named=True,
        ),
        IMAGE_QUANTITIES,
        "0.034394",
        request=form("gpt-image-1.5"),
    ),
    Case("images by the piece", "/v1/images/generations", "dall-e-3", {"created": 1, "data": [{"url": "u"}, {"url": "u"}]}, {Meter.IMAGES: 2}, None, evidence=Evidence.COUNTED, status=RatingStatus.UNPRICED),
    Case(
        "transcription by tokens",
        "/v1/audio/transcriptions",
        None,
        {"text": "Hi", "usage": {"type": "tokens", "input_tokens": 14, "input_token_details": {"text_tokens": 4, "audio_tokens": 10}, "output_tokens": 45, "total_tokens": 59}},
        {Meter.AUDIO_INPUT: 10, IN: 4, OUT: 45},
        "0.00052",
        request=form("gpt-4o-transcribe"),
    ),
    Case(
        "transcription stream",
        "/v1/audio/transcriptions",
        None,
        events(
            {"type": "transcript.text.delta", "delta": "Hi"},
            {"type": "transcript.text.done", "text": "Hi", "usage": {"type": "tokens", "input_tokens": 14, "input_token_details": {"text_tokens": 4, "audio_tokens": 10}, "output_tokens": 45, "total_tokens": 59}},
        ),
        {Meter.AUDIO_INPUT: 10, IN: 4, OUT: 45},
        "0.00052",
        request=form("gpt-4o-transcribe"),
    ),
    Case("transcription by seconds", "/v1/audio/transcriptions", None, {"text": "Hi", "usage": {"type": "duration", "seconds": 60}}, {Meter.AUDIO_MS: 60_000}, "0.006", request=form("whisper-1")),
    Case("transcription with its duration", "/v1/audio/translations", None, {"task": "translate", "duration": 90.5, "text": "Hi"}, {Meter.AUDIO_MS: 90_500}, "0.00905", request=form("whisper-1")),
    Case("transcription with its duration as text", "/v1/audios/translations", None, {"duration": "90.5", "text": "Hi"}, {Meter.AUDIO_MS: 90_500}, "0.00905", request=form("whisper-1")),
    *(
        Case(f"transcription as {kind}", "/v1/audio/transcriptions", None, text, {}, None, request=form("whisper-1"), evidence=Evidence.NONE, status=RatingStatus.UNKNOWN, media_type=media_type)
        for kind, media_type, text in (
            ("text", "text/plain", b"12"),
            ("srt", "text/plain; charset=utf-8", b"1\n00:00:00,000 --> 00:01:00,000\nHi\n"),
            ("vtt", "text/vtt", b"WEBVTT\n"),
            ("plain json", "application/json", b'{"text":"Hi"}'),
        )
    ),
    Case("speech by characters", "/v1/audio/speech", "tts-1", b"ID3\x04\xff\xfb\x90", {Meter.CHARACTERS: 5}, "0.000075", request={"model": "tts-1", "voice": "x", "input": "Grüße"}, evidence=Evidence.COUNTED, media_type="audio/mpeg"),
    Case("speech sold by tokens", "/v1/audio/speech", "gpt-4o-mini-tts", b"ID3\x04\xff\xfb\x90", {Meter.CHARACTERS: 5}, None, request={"model": "gpt-4o-mini-tts", "input": "Grüße"}, evidence=Evidence.COUNTED, status=RatingStatus.UNPRICED, media_type="audio/mpeg"),
    Case(
        "speech stream",
        "/v1/audio/speech",
        "gpt-4o-mini-tts",
        events({"type": "speech.audio.delta", "audio": "//"}, {"type": "speech.audio.done", "usage": {"input_tokens": 14, "output_tokens": 101, "total_tokens": 115}}),
        {IN: 14, Meter.AUDIO_OUTPUT: 101},
        "0.0012204",
    ),
    Case(
        "run to its end",
        RUNS,
        "gpt-4o",
        b"event: thread.run.step.completed\n" + events({**STEP, "usage": RUN_USAGE})
        + b"event: thread.run.completed\n" + events({**RUN, "usage": RUN_USAGE}, done=True),
        PLAIN,
        "0.00015",
    ),
    Case(
        "run that asks for tool outputs",
        "/v1/threads/runs",
        "gpt-4o",
        b"event: thread.run.step.completed\n" + events({**STEP, "usage": RUN_USAGE})
        + b"event: thread.run.requires_action\n" + events(RUN, done=True),
        {},
        None,
        evidence=Evidence.NONE,
        status=RatingStatus.UNKNOWN,
    ),
    Case("run that goes on", RUNS, "gpt-4o", {**RUN, "status": "queued"}, {}, None, evidence=Evidence.NONE, status=RatingStatus.UNKNOWN),
    *(
        Case(f"later: {path}", path, "gpt-4o", {"id": "x", "model": "gpt-4o", "usage": {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}}, {}, None, evidence=Evidence.NONE, status=RatingStatus.UNKNOWN)
        for path in ("/v1/batches", "/v1/fine_tuning/jobs", "/v1/vector_stores", "/v1/videos", "/v1/realtime/client_secrets", "/v1/messages/batches")
    ),
    *(
        Case(f"free: {path}", path, None, {"id": "x", "usage_bytes": 1}, {}, "0", method=method, evidence=Evidence.NONE, status=RatingStatus.NOT_BILLABLE)
        for method, path in (("POST", "/v1/files"), ("POST", "/v1/threads/t1/messages"), ("POST", "/v1/assistants"), ("GET", "/v1/batches/b1"), ("DELETE", "/v1/files/f1"), ("GET", "/v1/whatever/comes"))
    ),
    Case("unknown path with usage", "/v1/whatever/comes", "gpt-4o", {"model": "gpt-4o", "usage": {"input_tokens": 20, "output_tokens": 10}}, PLAIN, "0.00015"),
    Case("unknown path without", "/v1/whatever/comes", "gpt-4o", {"model": "gpt-4o"}, {}, None, evidence=Evidence.NONE, status=RatingStatus.UNKNOWN),
    Case("message", "/v1/messages", "claude-sonnet-4-5", {**MESSAGE, "usage": MESSAGE_USAGE}, MESSAGE_QUANTITIES, MESSAGE_USD, "anthropic"),
    Case(
        "message with a compaction",
        "/v1/messages",
        "claude-sonnet-4-5",
        {
            **MESSAGE,
            "usage": {
                **MESSAGE_USAGE,
                "iterations": [
                    {"type": "compaction", "input_tokens": 1000, "output_tokens": 30, "cache_creation_input_tokens": 9, "cache_creation": {"ephemeral_1h_input_tokens": 5}},
                    {"type": "message", "input_tokens": 100, "output_tokens": 50},
                ],
            },
        },
        {**MESSAGE_QUANTITIES, IN: 1100, Meter.CACHE_WRITE_5M: 104, Meter.CACHE_WRITE_1H: 205, OUT: 80},
        "0.02672",
        "anthropic",
    ),
    Case(
        "message with an adviser",
        "/v1/messages",
        "claude-sonnet-4-5",
        {**MESSAGE, "usage": {**MESSAGE_USAGE, "iterations": [{"type": "advisor_message", "model": "claude-opus-4-5", "input_tokens": 823, "output_tokens": 1612}]}},
        {**MESSAGE_QUANTITIES, Meter.OTHER_MODEL_TOKENS: 2435},
        None,
        "anthropic",
        status=RatingStatus.UNPRICED,
    ),
    Case("message with broken iterations", "/v1/messages", "claude-sonnet-4-5", {**MESSAGE, "usage": {**MESSAGE_USAGE, "iterations": [7]}}, MESSAGE_QUANTITIES, MESSAGE_USD, "anthropic"),
    Case("message stream", "/v1/messages", "claude-sonnet-4-5", MESSAGE_STREAM, MESSAGE_QUANTITIES, MESSAGE_USD, "anthropic"),
    Case("count of tokens", "/v1/messages/count_tokens", "claude-sonnet-4-5", {"input_tokens": 2095}, {}, "0", "anthropic", evidence=Evidence.NONE, status=RatingStatus.NOT_BILLABLE),
    Case(
        "legacy completion",
        "/v1/complete",
        "claude-2.1",
        {"type": "completion", "completion": "one two", "stop_reason": "stop_sequence", "model": "claude-2.1"},
        {IN: 4, OUT: 2},
        "0.00008",
        "anthropic",
        request={"model": "claude-2.1", "prompt": "one two three four", "max_tokens_to_sample": 9},
        evidence=Evidence.ESTIMATED,
    ),
    Case("Anthropic in OpenAI's dialect", "/v1/chat/completions", "claude-sonnet-4-5", {**CHAT, "model": "claude-sonnet-4-5-20250929", "usage": RUN_USAGE}, PLAIN, "0.00021", "anthropic"),
    Case("Azure", "/openai/deployments/mine/chat/completions", "mine", {**CHAT, "usage": CHAT_USAGE, "prompt_filter_results": []}, CHAT_QUANTITIES, "0.003", "azure"),
    Case("DeepInfra", "/v1/chat/completions", "x", {**CHAT, "model": "x", "usage": {**RUN_USAGE, "estimated_cost": 1e-6}}, PLAIN, None, "deepinfra", status=RatingStatus.UNPRICED),
    Case("vLLM", "/v1/chat/completions", "x", {**CHAT, "model": "x", "usage": {**RUN_USAGE, "prompt_tokens_details": None}}, PLAIN, None, "vllm", status=RatingStatus.UNPRICED),
    Case(
        "Gemini counts thoughts in the total alone",
        "/v1/chat/completions",
        "gemini-2.5-flash",
        {**CHAT, "model": "gemini-2.5-flash", "usage": {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 130}},
        {IN: 20, THOUGHT: 100, OUT: 10},
        "0.000281",
        "gemini",
        evidence=Evidence.ESTIMATED,
    ),
    Case(
        "Mistral stream",
        "/v1/chat/completions",
        "mistral-large-latest",
        events({**CHUNK, "model": "mistral-large-latest", "choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}], "usage": RUN_USAGE}, done=True),
        PLAIN,
        "0.0001",
        "mistral",
    ),
    Case(
        "Groq stream",
        "/v1/chat/completions",
        "llama-3.1-8b-instant",
        events(
            {**CHUNK, "model": "llama-3.1-8b-instant", "choices": [{"index": 0, "delta": {"content": "Hi"}}]},
            {**CHUNK, "model": "llama-3.1-8b-instant", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "x_groq": {"id": "req_1", "usage": {**RUN_USAGE, "queue_time": 0.1, "total_time": 0.2}}},
            done=True,
        ),
        PLAIN,
        "0.0000018",
        "groq",
    ),
    Case("OpenRouter", "/v1/chat/completions", "openai/gpt-4o", {**CHAT, "model": "openai/gpt-4o", "provider": "OpenAI", "usage": {**RUN_USAGE, "cost": 99, "cost_details": {"upstream_inference_cost": 99}, "prompt_tokens_details": {"cached_tokens": 0}}}, {READ: 0, **PLAIN}, "0.00015", "openrouter"),
    Case("DeepSeek", "/v1/chat/completions", "deepseek-chat", {**CHAT, "model": "deepseek-chat", "usage": {**RUN_USAGE, "prompt_cache_hit_tokens": 15, "prompt_cache_miss_tokens": 5, "completion_tokens_details": {"reasoning_tokens": 4}}}, {READ: 15, IN: 5, THOUGHT: 4, OUT: 6}, None, "deepseek"),
]  # fmt: skip


def exchange(case: Case, *, pieces: int = 3, bytes_max: int = 1 << 20) -> ExchangeCompleted:
    """The event that a gateway writes of it."""
    path = (
        case.path if case.path.startswith("/v1/") else f"/api/providers/{case.provider}{case.path}"
    )
    endpoint = REGISTRY.match(case.method, path)
    assert endpoint is not None
    document, content_type, answer = None, case.media_type or "application/json", case.answer
    if isinstance(answer, bytes) and not case.media_type:
        content_type = "text/event-stream; charset=utf-8"
        transcript = Transcript(bytes_max)
        for at in range(0, len(answer), size := max(len(answer) // pieces, 1)):
            transcript.add(answer[at : at + size])
        document, answer = transcript.usage_document(), transcript.body()
    event = exchange_of(
        case.request,
        answer,
        content_type=content_type,
        usage_document=document,
        path=endpoint.template,
        operation=endpoint.operation,
        model=case.model,
        method=case.method,
    )
    attempt = Attempt(SettingRef("s", 1, case.provider), case.model, 200, None, 0, 1, 1, None)
    return msgspec.structs.replace(event, attempts=(attempt,))


@pytest.fixture(scope="module")
def pipeline(book: PriceBook) -> Pipeline:
    return Pipeline(book)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_operation_is_billed_by_what_its_answer_says(pipeline: Pipeline, case: Case) -> None:
    """Quantities, evidence, status and price."""
    event = exchange(case)
    if is_billable(event):
        usage = usage_of(event)
        assert usage.quantities == case.quantities
        assert_sums(usage)
    manifest = Manifest(0, bytes(16), event.admitted_at_ms, "book", "build")
    billed = pipeline.rows([Chargeable(event, bytes(16), 0, 1)], [], manifest)
    [entry] = billed.entries
    assert not billed.unrated
    assert (entry.evidence, entry.rating_status) == (case.evidence, case.status)
    if case.usd is not None:
        assert entry.cost_picousd == int(Decimal(case.usd) * 10**12)
    elif case.status is RatingStatus.RATED:
        assert entry.cost_picousd
    else:
        assert entry.cost_picousd is None
    if case.status is RatingStatus.UNKNOWN:
        assert entry.input_tokens is entry.output_tokens is entry.output_text_tokens is None


def assert_sums(usage: Usage) -> None:
    for total, meters in ((usage.input_tokens, INPUT_METERS), (usage.output_tokens, OUTPUT_METERS)):
        parts = [count for meter, count in usage.quantities.items() if meter in meters]
        assert (total is None and not parts) or total == sum(parts)


STREAMS = [case for case in CASES if isinstance(case.answer, bytes) and not case.media_type]


@given(st.sampled_from(STREAMS), st.integers(1, 200))
def test_any_chunking_of_a_stream_gives_the_same_usage(case: Case, pieces: int) -> None:
    """However the network cut it."""
    assert usage_of(exchange(case, pieces=pieces)) == usage_of(exchange(case, pieces=1))


@pytest.mark.parametrize(
    "case",
    [
        c
        for c in STREAMS
        if c.name in ("message stream", "response stream completed", "image stream")
    ],
    ids=lambda case: case.name,
)
def test_a_stream_that_was_cut_in_its_event_keeps_its_usage_and_model(case: Case) -> None:
    """The end is kept apart, and the first event still names the model."""
    filler = b": " + b"x" * 200_000 + b"\n\n"
    head, mark, rest = case.answer.partition(b"\n\n")
    cut = case._replace(answer=head + mark + filler + rest)
    usage = usage_of(exchange(cut, bytes_max=8_192))
    assert (usage.quantities, usage.evidence) == (case.quantities, case.evidence)
    assert usage.model_served == usage_of(exchange(case)).model_served


@pytest.mark.parametrize("length", [100_000, 500_000, 2_000_000])
@pytest.mark.parametrize("bytes_max", [0, 8_192, 1 << 20])
def test_the_usage_of_an_event_of_any_length_is_read(length: int, bytes_max: int) -> None:
    """A picture or a long response lies before the usage block, in the same event."""
    picture = case_of("image stream")
    long = events({"type": "x.completed", "b64_json": "A" * length, "usage": IMAGE_USAGE})
    assert usage_of(exchange(picture._replace(answer=long), bytes_max=bytes_max)).quantities == (
        IMAGE_QUANTITIES
    )
    response = case_of("response stream completed")
    output = [
        {
            "type": "message",
            "content": [{"type": "output_text", "text": '"usage":{' * (length // 12)}],
        }
    ]
    last = {**RESPONSE, "output": output, "service_tier": "flex", "usage": None}
    last["usage"] = RESPONSE_USAGE
    long = events(
        {"type": "response.created", "response": WITHOUT_USAGE},
        {"type": "response.completed", "response": last},
    )
    usage = usage_of(exchange(response._replace(answer=long), bytes_max=bytes_max))
    assert (usage.quantities, usage.service_tier) == (RESPONSE_QUANTITIES, "flex")
    assert usage.model_served == ("gpt-4o-2024-08-06" if bytes_max else None)


def case_of(name: str) -> Case:
    return next(case for case in CASES if case.name == name)


@pytest.mark.parametrize("bytes_max", [0, 10, 1 << 20])
@pytest.mark.parametrize("pieces", [1, 50])
def test_a_stream_of_anthropics_needs_no_body(bytes_max: int, pieces: int) -> None:
    """Where bodies do not travel, the usage document alone says what the prompt was."""
    whole = usage_of(exchange(case_of("message stream")))
    event = exchange(case_of("message stream"), bytes_max=bytes_max, pieces=pieces)
    without = msgspec.structs.replace(event, response=body_of(b"", whole_bytes=5000))
    assert usage_of(without) == whole
    assert whole.model_served == MESSAGE["model"]


@pytest.mark.parametrize(
    "duration", [None, -1, "x", "nan", "inf", [], True, 1e12, "1e400", {"a": 1}]
)
def test_a_duration_that_is_none_is_unknown(duration: Any) -> None:
    """Not zero, and no exception."""
    case = case_of("transcription with its duration")._replace(answer={"duration": duration})
    assert usage_of(exchange(case)) == NO_USAGE


@given(st.binary(max_size=300), st.sampled_from(CASES))
def test_no_answer_and_no_request_raises(content: bytes, case: Case) -> None:
    """Whatever bytes come, there is a usage or none."""
    for changed in (
        case._replace(answer=content, media_type="application/json"),
        case._replace(answer=content, media_type=""),
        case._replace(request=content),
    ):
        assert_sums(usage_of(exchange(changed)))


@pytest.mark.parametrize(
    ("content", "model"),
    [
        (form("whisper-1"), "whisper-1"),
        (form("whisper-1").replace(b'"model"', b"model"), "whisper-1"),
        (form("whisper-1").replace(b'name="model"', b'name="modell"'), None),
        (form(""), None),
        (form("x" * 300), None),
        (b"--\r\n", None),
        (b"", None),
        (b"{}", None),
        (form("whisper-1")[:-20], None),
    ],
)
def test_the_model_of_a_form_is_read(content: bytes, model: str | None) -> None:
    """Only a part of the form, between its boundaries."""
    assert model_in_form(body_of(content)) == model


def test_a_model_in_a_file_is_not_the_forms() -> None:
    """What a file holds is no field, even if it looks like one."""
    field = b'\r\n--other\r\nContent-Disposition: form-data; name="model"\r\n\r\ncheap\r\n'
    content = form("whisper-1").replace(b"\xff\xfb\x90model", field)
    assert model_in_form(body_of(content)) == "whisper-1"


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))
def test_pictures_cost_what_the_source_says(
    book: PriceBook, words: int, picture: int, cached: int, made: int
) -> None:
    """Tokens of pictures by their own prices, read from the cache or not."""
    usage_block = {
        "input_tokens": words + picture + cached,
        "output_tokens": made,
        "input_tokens_details": {
            "text_tokens": words,
            "image_tokens": picture + cached,
            "cached_tokens": cached,
            "cached_tokens_details": {"image_tokens": cached, "text_tokens": 0},
        },
    }
    case = case_of("image by tokens")._replace(answer={"data": [{}], "usage": usage_block})
    event = exchange(case)
    manifest = Manifest(0, bytes(16), event.admitted_at_ms, "book", "build")
    [entry] = Pipeline(book).rows([Chargeable(event, bytes(16), 0, 1)], [], manifest).entries
    source = get_snapshot().calc(
        SourceUsage(
            input_tokens=words + picture + cached,
            input_image_tokens=picture + cached,
            cache_read_tokens=cached,
            cache_image_read_tokens=cached,
            output_tokens=made,
            output_image_tokens=made,
        ),
        "gpt-image-1.5",
        "openai",
        None,
        None,
    )
    assert entry.cost_picousd == source.total_price * 10**12
