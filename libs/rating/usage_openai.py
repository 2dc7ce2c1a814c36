"""Usage as OpenAI's dialects report it, as disjoint quantities that sum to the reported totals."""

from typing import Final

from contracts.meters import Evidence, Meter, Usage
from rating.usage_block import TEXT_CHARACTERS_MAX, Answer, Details, UsageBlock

_REPORTED: Final = Evidence.REPORTED
_ESTIMATED: Final = Evidence.ESTIMATED
_INPUT_UNCACHED: Final = Meter.INPUT_UNCACHED
_CACHE_READ: Final = Meter.CACHE_READ
_CACHE_WRITE_5M: Final = Meter.CACHE_WRITE_5M
_AUDIO_INPUT: Final = Meter.AUDIO_INPUT
_IMAGE_INPUT: Final = Meter.IMAGE_INPUT
_CACHE_AUDIO_READ: Final = Meter.CACHE_AUDIO_READ
_CACHE_IMAGE_READ: Final = Meter.CACHE_IMAGE_READ
_OUTPUT_TEXT: Final = Meter.OUTPUT_TEXT
_REASONING: Final = Meter.REASONING
_AUDIO_OUTPUT: Final = Meter.AUDIO_OUTPUT
_IMAGE_OUTPUT: Final = Meter.IMAGE_OUTPUT
_SECONDS_MAX: Final = 10**9


def openai_usage(answer: Answer, block: UsageBlock) -> Usage | None:
    """Usage of chat completions, completions, embeddings, responses, images and transcriptions.

    A side (input, output) whose total is not stated is None and has no quantities; None when
    nothing is. Rules where a provider contradicts itself, each marked by evidence `estimated`:

    - Parts that exceed their total: the total stands, parts are cut in the order cached, written,
      audio, image (input) and reasoning, audio, image (output).
    - `total_tokens` above input + output: the rest is output that was left out, as reasoning. When
      it is exactly the reasoning reported beside the output, nothing is guessed: `reported`.
    """
    input_tokens, output_tokens = block.prompt_tokens, block.completion_tokens
    input_details, output_details = block.prompt_tokens_details, block.completion_tokens_details
    if input_tokens is None and output_tokens is None:
        input_tokens, output_tokens = block.input_tokens, block.output_tokens
        input_details = block.input_tokens_details or block.input_token_details
        output_details = block.output_tokens_details or block.output_token_details
    total_tokens = block.total_tokens
    reasoning_tokens = None if output_details is None else output_details.reasoning_tokens
    is_exact = True
    if total_tokens is not None and input_tokens is not None:
        if output_tokens is None:
            if total_tokens >= input_tokens:
                output_tokens = total_tokens - input_tokens
        elif (left_out := total_tokens - input_tokens - output_tokens) > 0:
            output_tokens += left_out
            is_exact = reasoning_tokens == left_out
            reasoning_tokens = max(reasoning_tokens or 0, left_out)
    quantities: dict[Meter, int] = {}
    if input_tokens is not None:
        rest = input_tokens - _add_input_parts(quantities, block, input_details)
        if rest < 0:
            rest, is_exact = 0, False
            _cut_to_fit(quantities, input_tokens)
        quantities[_INPUT_UNCACHED] = rest
    if output_tokens is not None:
        parts: dict[Meter, int] = {}
        rest = output_tokens - _add_output_parts(parts, reasoning_tokens, output_details)
        if rest < 0:
            rest, is_exact = 0, False
            _cut_to_fit(parts, output_tokens)
        quantities.update(parts)
        quantities[_OUTPUT_TEXT] = rest
    if block.num_search_queries is not None:
        quantities[Meter.SEARCHES] = block.num_search_queries
    if block.seconds is not None and 0 <= block.seconds < _SECONDS_MAX:
        quantities[Meter.AUDIO_MS] = round(block.seconds * 1000)
    if not quantities:
        return None
    service_tier = answer.service_tier or block.service_tier
    return Usage(
        quantities,
        input_tokens,
        output_tokens,
        _REPORTED if is_exact else _ESTIMATED,
        answer.model[:TEXT_CHARACTERS_MAX] if answer.model else None,
        answer.id[:TEXT_CHARACTERS_MAX] if answer.id else None,
        service_tier[:TEXT_CHARACTERS_MAX] if service_tier else None,
    )


def _add_input_parts(parts: dict[Meter, int], block: UsageBlock, details: Details | None) -> int:
    """Adds what is known of the input and returns its sum, in tokens."""
    if details is None:
        # Compatible providers that report it beside the totals.
        cached = block.prompt_cache_hit_tokens
        if cached is None:
            cached = block.cached_tokens
        if cached is None:
            return 0
        parts[_CACHE_READ] = cached
        return cached
    cached = details.cached_tokens
    if cached is None:
        cached = block.prompt_cache_hit_tokens
    audio, image = details.audio_tokens, details.image_tokens
    total = 0
    by_kind = details.cached_tokens_details
    if by_kind is not None and cached is not None:
        # What was cached counts as cached, so it is not counted again as audio or image.
        cached_audio = min(by_kind.audio_tokens or 0, cached, audio or 0)
        cached_image = min(by_kind.image_tokens or 0, cached - cached_audio, image or 0)
        if by_kind.audio_tokens is not None:
            parts[_CACHE_AUDIO_READ] = cached_audio
        if by_kind.image_tokens is not None:
            parts[_CACHE_IMAGE_READ] = cached_image
        total = cached_audio + cached_image
        cached -= total
        audio = None if audio is None else audio - cached_audio
        image = None if image is None else image - cached_image
    if cached is not None:
        parts[_CACHE_READ] = cached
        total += cached
    written = details.cache_write_tokens
    if written is not None:
        parts[_CACHE_WRITE_5M] = written
        total += written
    if audio is not None:
        parts[_AUDIO_INPUT] = audio
        total += audio
    if image is not None:
        parts[_IMAGE_INPUT] = image
        total += image
    return total


def _add_output_parts(
    parts: dict[Meter, int], reasoning: int | None, details: Details | None
) -> int:
    """Adds what is known of the output and returns its sum, in tokens."""
    total = 0
    if reasoning is not None:
        parts[_REASONING] = total = reasoning
    if details is None:
        return total
    audio, image = details.audio_tokens, details.image_tokens
    if audio is not None:
        parts[_AUDIO_OUTPUT] = audio
        total += audio
    if image is not None:
        parts[_IMAGE_OUTPUT] = image
        total += image
    return total


def _cut_to_fit(parts: dict[Meter, int], total: int) -> None:
    """Cuts parts that exceed their total, the last ones first."""
    left = total
    for meter, part in parts.items():
        parts[meter] = taken = min(part, left)
        left -= taken
