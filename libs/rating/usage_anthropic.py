"""Usage as Anthropic's messages report it, whole or in two halves at the ends of a stream."""

from typing import Final

from contracts.meters import Evidence, Meter, Usage
from rating.usage_block import MESSAGE_START, Answer, Iteration, UsageBlock, text

_COMPACTION: Final = "compaction"
_ADVISOR: Final = "advisor_message"
_KINDS: Final = frozenset({"message", MESSAGE_START, "message_delta"})


def is_anthropic(answer: Answer, block: UsageBlock) -> bool:
    """Whether the block counts cached input beside `input_tokens`, not inside."""
    if block.prompt_tokens is not None:
        return False
    return (
        block.cache_read_input_tokens is not None
        or block.cache_creation_input_tokens is not None
        or answer.type in _KINDS
    )


def anthropic_usage(answer: Answer, block: UsageBlock, start: Answer | None = None) -> Usage | None:
    """Usage of a message. `input_tokens` is the whole prompt: uncached, read and written.

    `start` is the message of `message_start`, when `answer` is a later event of the stream: what
    the later one does not say, the first one did. The first one's own output count is a
    placeholder, so output stays unknown until a later event states it. Where the 5-minute and
    1-hour parts do not sum to what was written, that total stands, the 1-hour part first, and the
    evidence is `estimated`.

    Of the iterations behind a message its own usage leaves out compactions, which are added, and
    those of an adviser, which is another model: its tokens are a meter of their own.
    """
    if start is None:
        first = block
        start = answer
    else:
        first = start.usage or block
    uncached = _either(block.input_tokens, first.input_tokens)
    read = _either(block.cache_read_input_tokens, first.cache_read_input_tokens)
    written = _either(block.cache_creation_input_tokens, first.cache_creation_input_tokens)
    output_tokens = None if answer.type == MESSAGE_START else block.output_tokens
    quantities: dict[Meter, int] = {}
    is_exact = True
    input_tokens: int | None = None
    if uncached is not None:
        quantities[Meter.INPUT_UNCACHED] = uncached
        if read is not None:
            quantities[Meter.CACHE_READ] = read
        by_ttl = block.cache_creation if block.cache_creation is not None else first.cache_creation
        for_1h = None if by_ttl is None else by_ttl.ephemeral_1h_input_tokens
        for_5m = None if by_ttl is None else by_ttl.ephemeral_5m_input_tokens
        if written is None and (for_1h is not None or for_5m is not None):
            written = (for_1h or 0) + (for_5m or 0)
        if written is not None:
            kept_1h = min(for_1h or 0, written)
            is_exact = for_5m is None or for_5m + (for_1h or 0) == written
            quantities[Meter.CACHE_WRITE_5M] = written - kept_1h
            quantities[Meter.CACHE_WRITE_1H] = kept_1h
        input_tokens = uncached + (read or 0) + (written or 0)
    if output_tokens is not None:
        details = block.output_tokens_details
        thinking = None if details is None else details.thinking_tokens
        if thinking is not None:
            is_exact = is_exact and thinking <= output_tokens
            thinking = min(thinking, output_tokens)
            quantities[Meter.REASONING] = thinking
        quantities[Meter.OUTPUT_TEXT] = output_tokens - (thinking or 0)
    tools = block.server_tool_use
    if tools is not None and tools.web_search_requests is not None:
        quantities[Meter.SEARCHES] = tools.web_search_requests
    if input_tokens is None and output_tokens is None:
        return None
    if input_tokens is not None and output_tokens is not None and block.iterations:
        for iteration in block.iterations:
            if iteration.type == _COMPACTION:
                input_tokens += _add_input_of(iteration, quantities)
                output_tokens += _add(quantities, Meter.OUTPUT_TEXT, iteration.output_tokens)
            elif iteration.type == _ADVISOR:
                _add(quantities, Meter.OTHER_MODEL_TOKENS, _all_tokens_of(iteration))
    return Usage(
        quantities,
        input_tokens,
        output_tokens,
        Evidence.REPORTED if is_exact else Evidence.ESTIMATED,
        text(answer.model) or text(start.model),
        text(answer.id) or text(start.id),
        _service_tier(block) or _service_tier(first),
    )


def _add_input_of(iteration: Iteration, quantities: dict[Meter, int]) -> int:
    """Adds the input of an iteration and returns how many tokens that was."""
    written = iteration.cache_creation_input_tokens or 0
    by_ttl = iteration.cache_creation
    for_1h = 0 if by_ttl is None else min(by_ttl.ephemeral_1h_input_tokens or 0, written)
    return (
        _add(quantities, Meter.INPUT_UNCACHED, iteration.input_tokens)
        + _add(quantities, Meter.CACHE_READ, iteration.cache_read_input_tokens)
        + _add(quantities, Meter.CACHE_WRITE_5M, written - for_1h)
        + _add(quantities, Meter.CACHE_WRITE_1H, for_1h)
    )


def _all_tokens_of(iteration: Iteration) -> int:
    return sum(
        tokens or 0
        for tokens in (
            iteration.input_tokens,
            iteration.cache_read_input_tokens,
            iteration.cache_creation_input_tokens,
            iteration.output_tokens,
        )
    )


def _add(quantities: dict[Meter, int], meter: Meter, tokens: int | None) -> int:
    if tokens:
        quantities[meter] = quantities.get(meter, 0) + tokens
    return tokens or 0


def _either(later: int | None, earlier: int | None) -> int | None:
    return earlier if later is None else later


def _service_tier(block: UsageBlock) -> str | None:
    """Fast inference is a price of its own like a tier, though it is reported in a field apart."""
    return "fast" if block.speed == "fast" else text(block.service_tier)
