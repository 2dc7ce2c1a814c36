"""What an exchange used: reported usage wins, else it is counted here and the evidence says so."""

from typing import Final

from contracts.exchange import Body, ExchangeCompleted
from contracts.meters import INPUT_METERS, NO_USAGE, OUTPUT_METERS, Evidence, Meter, Usage
from rating.answer_text import Said, read_answer_text
from rating.prompt_text import Prompt, read_prompt
from rating.tokenizers import count_tokens, vocabulary_of
from rating.usage_anthropic import anthropic_usage, is_anthropic
from rating.usage_block import MESSAGE_START, Answer, read_answer
from rating.usage_openai import openai_usage

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
_MESSAGE_START_WITHIN_BYTES: Final = 64 * 1024
_MESSAGE_START_MARK: Final = MESSAGE_START.encode()


def usage_of(event: ExchangeCompleted) -> Usage:
    """The usage of an exchange. Never raises on what a client or provider sent.

    The provider's usage block wins: that of the stream, else that of the JSON answer. A side that
    it does not state (input, output) is counted from the bodies, if the provider answered with
    success and the path is one whose texts we know. `counted` needs the model's own vocabulary,
    nothing but plain text on both sides and an answer that shows its end; anything else counted is
    `estimated`. Nothing to read: `NO_USAGE`.
    """
    answer: Answer | None = None
    if event.usage_document is not None:
        answer = read_answer(event.usage_document)
    elif "event-stream" not in event.response_content_type:
        answer = read_answer(event.response.content)
    usage = None if answer is None else _reported(answer, event.response)
    if usage is not None and _is_complete(usage):
        return usage
    return _with_counts(event, usage)


def is_billable(event: ExchangeCompleted) -> bool:
    """Whether a provider bills the exchange: the last attempt was answered with success.

    Not billable: refusals and cache answers (no attempt), error answers, attempts that ended
    without an answer, reading requests (a list of models). In doubt, when our clock or our client
    ended the wait: billable, and its cost is unknown.
    """
    if not event.attempts or event.outcome == "refused" or event.call.method in _READING_METHODS:
        return False
    status = event.attempts[-1].status
    if status is None:
        return event.outcome in _OUTCOMES_IN_DOUBT
    return 200 <= status < 300


def _reported(answer: Answer, response: Body) -> Usage | None:
    block = answer.usage
    if block is None:
        return None
    if not is_anthropic(answer, block):
        return openai_usage(answer, block)
    start = None
    if answer.type == "message_delta":
        start = _message_start(response.content)
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


def _is_complete(usage: Usage) -> bool:
    """Both sides are known, or the provider counts something else than tokens."""
    return (usage.input_tokens is None) is (usage.output_tokens is None)


def _with_counts(event: ExchangeCompleted, usage: Usage | None) -> Usage:
    if not _is_countable(event):
        return usage or NO_USAGE
    said = read_answer_text(event.response, event.response_content_type)
    if said is None:
        return usage or NO_USAGE
    if usage is None and said.usage_document is not None:
        answer = read_answer(said.usage_document)
        usage = None if answer is None else _reported(answer, event.response)
        if usage is not None and _is_complete(usage):
            return usage
    prompt = read_prompt(event.request)
    if prompt is None:
        return usage or NO_USAGE
    return _merged(usage, _counted(event, prompt, said))


def _is_countable(event: ExchangeCompleted) -> bool:
    status = event.attempts[-1].status if event.attempts else event.status
    if status is None or not 200 <= status < 300 or event.call.method in _READING_METHODS:
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
