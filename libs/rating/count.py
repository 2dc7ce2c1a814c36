"""What an exchange used: reported usage wins, else it is counted here and the evidence says so."""

from typing import Final

import msgspec

from contracts.exchange import Attempt, Body, ExchangeCompleted, Outcome
from contracts.meters import INPUT_METERS, NO_USAGE, OUTPUT_METERS, Evidence, Meter, Usage
from rating.answer_text import Said, read_answer_text
from rating.billing import Billing, billing_of
from rating.placed_text import placed_usage
from rating.prompt_text import Prompt, read_prompt
from rating.tokenizers import count_tokens, vocabulary_of
from rating.usage_anthropic import anthropic_usage, is_anthropic
from rating.usage_block import MESSAGE_START, Answer, read_answer
from rating.usage_media import MEDIA_OPERATIONS, media_usage
from rating.usage_openai import openai_usage
from rating.usage_tools import with_tool_calls

_COUNTED_PATHS: Final = (
    "/chat/completions",
    "/completions",
    "/embeddings",
    "/responses",
    "/messages",
    "/complete",
)
_COUNTED_OPERATIONS: Final = frozenset({"chat", "text_completion", "embeddings", "responses"})
_READING_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})
# Ends at which a provider that never answered may have worked for us all the same.
_OUTCOMES_IN_DOUBT: Final = frozenset({"timed_out", "client_left", "shutting_down"})
_NOTHING_SENT: Final = frozenset({"connect_failed", "connect_timeout", "pool_timeout"})
"""Errors of an attempt whose request cannot have reached the provider."""
# An enum's member costs 100 ns to look up by name.
_FREE: Final = Billing.FREE
_LATER: Final = Billing.LATER
_REPORT_OR_FREE: Final = Billing.REPORT_OR_FREE
_RUN_STEP: Final = "thread.run.step"
_RESPONSES: Final = "responses"
_MESSAGE_START_WITHIN_BYTES: Final = 64 * 1024
_MESSAGE_START_MARK: Final = MESSAGE_START.encode()


def usage_of(event: ExchangeCompleted) -> Usage:
    """The usage of an exchange. Never raises on what a client or provider sent.

    The provider's usage block wins: that of the stream, else that of the JSON answer. A side that
    it does not state (input, output) is counted from the bodies, if the provider answered with
    success and the path is one whose texts we know. `counted` needs the model's own vocabulary,
    nothing but plain text on both sides and an answer that shows its end; anything else counted is
    `estimated`. Pictures and sound: see `usage_media`. Nothing to read, or an answer to something
    that is done later: `NO_USAGE`.
    """
    call = event.call
    if billing_of(call.method, call.path_template) is _LATER:
        return NO_USAGE
    document: bytes | None = None
    if event.usage_document is not None:
        document = event.usage_document
    elif "event-stream" not in event.response_content_type:
        document = event.response.content
    elif call.operation in MEDIA_OPERATIONS:
        said = read_answer_text(event.response, event.response_content_type)
        document = None if said is None else said.usage_document
    answer = None if document is None else read_answer(document)
    usage = None if answer is None else _reported(answer, event.response)
    if usage is not None and usage.model_served is None and event.response.sha256 is not None:
        usage = _named(usage, event)
    if call.operation in MEDIA_OPERATIONS and _is_answered(event):
        usage = media_usage(event, answer, usage)
        return NO_USAGE if usage.evidence is Evidence.NONE else usage
    if usage is not None and _is_complete(usage):
        if document is not None and call.operation == _RESPONSES:
            return with_tool_calls(usage, document)
        return usage
    return _with_counts(event, usage)


def is_billable(event: ExchangeCompleted) -> bool:
    """Whether a provider bills the exchange, or may do so: then its cost is unknown, not zero.

    Not billable: refusals and answers from the cache (no attempt), last attempts that no provider
    bills, what is free by its path, and what is free unless its answer reports usage.
    """
    if not event.attempts or event.outcome == "refused" or event.is_cache_hit:
        return False
    billing = billing_of(event.call.method, event.call.path_template)
    if billing is _FREE or not may_be_billed(event.attempts[-1], event.outcome):
        return False
    return billing is not _REPORT_OR_FREE or usage_of(event) is not NO_USAGE


def may_be_billed(attempt: Attempt, outcome: Outcome | None = None) -> bool:
    """Whether the provider of an attempt may bill it: it answered with success, or nobody knows.

    Nobody knows when the request was sent and the answer never came. An attempt that names no error
    is judged by how its exchange ended: in doubt when a clock or the client ended the wait.
    """
    status = attempt.status
    if status is not None:
        return 200 <= status < 300
    if attempt.error is None:
        return outcome in _OUTCOMES_IN_DOUBT
    return attempt.error not in _NOTHING_SENT


def _is_answered(event: ExchangeCompleted) -> bool:
    status = event.attempts[-1].status if event.attempts else event.status
    return status is not None and 200 <= status < 300


def _reported(answer: Answer, response: Body) -> Usage | None:
    block = answer.usage
    if block is None or answer.object == _RUN_STEP:
        # The usage of one step of a run is a part of what the run will report.
        return None
    if not is_anthropic(answer, block):
        return openai_usage(answer, block)
    start = None
    if answer.type == "message_delta":
        start = answer.message or _message_start(response.content)
    return anthropic_usage(answer, block, start)


def _message_start(content: bytes) -> Answer | None:
    """The first event of a stream of Anthropic's, which names the model and the prompt's tokens."""
    mark = content.find(_MESSAGE_START_MARK, 0, _MESSAGE_START_WITHIN_BYTES)
    while mark >= 0:
        line_start = content.rfind(b"\n", 0, mark) + 1
        line_end = content.find(b"\n", mark)
        line = content[line_start : len(content) if line_end < 0 else line_end]
        if line.startswith(b"data:"):
            return read_answer(line[5:])
        mark = content.find(_MESSAGE_START_MARK, mark + 1, _MESSAGE_START_WITHIN_BYTES)
    return None


def _named(usage: Usage, event: ExchangeCompleted) -> Usage:
    """`usage` with the model and id that the first event of a stream names.

    Of a stream that was cut the usage block may be all that is left of the event that had it.
    """
    content = event.response.content
    if "event-stream" not in event.response_content_type or not content:
        return usage
    first = content.find(b"data:")
    end = content.find(b"\n", first)
    if first < 0 or end < 0:
        return usage
    head = Body(content[first : end + 1], end + 1 - first, None)
    said = read_answer_text(head, event.response_content_type)
    if said is None:
        return usage
    return msgspec.structs.replace(
        usage,
        model_served=said.model,
        response_id=usage.response_id or said.response_id,
        service_tier=usage.service_tier or said.service_tier,
    )


def _is_complete(usage: Usage) -> bool:
    """Both sides are known, or the provider counts something else than tokens."""
    return (usage.input_tokens is None) is (usage.output_tokens is None)


def _with_counts(event: ExchangeCompleted, usage: Usage | None) -> Usage:
    if event.text_places is not None:
        counted = placed_usage(event, event.text_places) if _is_answered(event) else None
        return _merged(usage, counted) if counted is not None else usage or NO_USAGE
    if not _is_countable(event):
        return usage or NO_USAGE
    said = read_answer_text(event.response, event.response_content_type)
    if said is None:
        return usage or NO_USAGE
    if usage is None and said.usage_document is not None:
        answer = read_answer(said.usage_document)
        usage = None if answer is None else _reported(answer, event.response)
        if usage is not None and _is_complete(usage):
            return with_tool_calls(usage, said.usage_document)
    prompt = read_prompt(event.request)
    if prompt is None:
        return usage or NO_USAGE
    return _merged(usage, _counted(event, prompt, said))


def _is_countable(event: ExchangeCompleted) -> bool:
    if not _is_answered(event) or event.call.method in _READING_METHODS:
        return False
    path = event.call.path_template
    return path.endswith(_COUNTED_PATHS) or event.call.operation in _COUNTED_OPERATIONS


def _counted(event: ExchangeCompleted, prompt: Prompt, said: Said) -> Usage:
    attempted = event.attempts[-1].model_sent if event.attempts else None
    vocabulary = vocabulary_of(said.model or attempted or event.call.model_asked)
    encoding = vocabulary.encoding
    prompt_tokens = count_tokens(prompt.texts, encoding) + prompt.frame_tokens + prompt.ready_tokens
    quantities = {Meter.INPUT_UNCACHED: _scaled(prompt_tokens, prompt.scale)}
    if prompt.image_tokens:
        quantities[Meter.IMAGE_INPUT] = prompt.image_tokens
    if prompt.audio_tokens:
        quantities[Meter.AUDIO_INPUT] = prompt.audio_tokens
    input_tokens = sum(quantities.values())
    thought = _scaled(count_tokens(said.texts(reasoning=True), encoding), said.scale)
    spoken = _scaled(count_tokens(said.texts(reasoning=False), encoding), said.scale)
    quantities[Meter.OUTPUT_TEXT] = spoken
    if thought:
        quantities[Meter.REASONING] = thought
    is_exact = vocabulary.is_exact and prompt.is_plain and said.is_plain and said.is_whole
    return Usage(
        quantities,
        input_tokens,
        spoken + thought,
        Evidence.COUNTED if is_exact else Evidence.ESTIMATED,
        said.model,
        said.response_id,
        said.service_tier,
    )


def _scaled(tokens: int, scale: tuple[int, int] | None) -> int:
    return tokens if scale is None else -(-tokens * scale[0] // scale[1])


def _merged(reported: Usage | None, counted: Usage) -> Usage:
    """The reported side as it is, the other one counted; the evidence is the weaker of the two."""
    if reported is None:
        return counted
    meters = OUTPUT_METERS if reported.output_tokens is None else INPUT_METERS
    filled = {meter: count for meter, count in counted.quantities.items() if meter in meters}
    is_estimated = Evidence.ESTIMATED in {reported.evidence, counted.evidence}
    return Usage(
        {**reported.quantities, **filled},
        counted.input_tokens if reported.input_tokens is None else reported.input_tokens,
        counted.output_tokens if reported.output_tokens is None else reported.output_tokens,
        Evidence.ESTIMATED if is_estimated else Evidence.COUNTED,
        reported.model_served or counted.model_served,
        reported.response_id or counted.response_id,
        reported.service_tier or counted.service_tier,
    )
