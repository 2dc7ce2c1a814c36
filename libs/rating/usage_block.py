"""The JSON that holds a provider's usage: only the fields that are read, tolerant of all others."""

from typing import Annotated, Any, Final

import msgspec

QUANTITY_MAX: Final = 10**12
"""More tokens than that in one exchange is a mistake of the provider's, not a quantity."""
TEXT_CHARACTERS_MAX: Final = 256
MESSAGE_START: Final = "message_start"
"""The first event of Anthropic's streams; an answer unwrapped from it keeps this as its type."""

Quantity = Annotated[int, msgspec.Meta(ge=0, le=QUANTITY_MAX)]


class Details(msgspec.Struct, frozen=True, gc=False):
    """Parts of a total, of any dialect."""

    cached_tokens: Quantity | None = None
    cache_write_tokens: Quantity | None = None
    audio_tokens: Quantity | None = None
    image_tokens: Quantity | None = None
    reasoning_tokens: Quantity | None = None
    thinking_tokens: Quantity | None = None
    ephemeral_5m_input_tokens: Quantity | None = None
    ephemeral_1h_input_tokens: Quantity | None = None
    web_search_requests: Quantity | None = None
    cached_tokens_details: "Details | None" = None


class Iteration(msgspec.Struct, frozen=True, gc=False):
    """One of the samplings behind a message of Anthropic's."""

    type: str | None = None
    input_tokens: Quantity | None = None
    output_tokens: Quantity | None = None
    cache_creation_input_tokens: Quantity | None = None
    cache_read_input_tokens: Quantity | None = None
    cache_creation: Details | None = None


class UsageBlock(msgspec.Struct, frozen=True, gc=False):
    """A `usage` object of any dialect. None: not stated, or stated as no quantity can be."""

    prompt_tokens: Quantity | None = None
    completion_tokens: Quantity | None = None
    total_tokens: Quantity | None = None
    prompt_tokens_details: Details | None = None
    completion_tokens_details: Details | None = None
    input_tokens: Quantity | None = None
    output_tokens: Quantity | None = None
    input_tokens_details: Details | None = None
    output_tokens_details: Details | None = None
    input_token_details: Details | None = None
    output_token_details: Details | None = None
    cache_creation_input_tokens: Quantity | None = None
    cache_read_input_tokens: Quantity | None = None
    cache_creation: Details | None = None
    server_tool_use: Details | None = None
    service_tier: str | None = None
    speed: str | None = None
    prompt_cache_hit_tokens: Quantity | None = None
    cached_tokens: Quantity | None = None
    num_search_queries: Quantity | None = None
    seconds: float | None = None
    iterations: tuple[Iteration, ...] | None = None


class Answer(msgspec.Struct, frozen=True, gc=False):
    """A document with a usage block: a whole answer, or one chunk or event of a stream.

    `message` beside a usage block is the message of the first event of the same stream.
    """

    id: str | None = None
    model: str | None = None
    service_tier: str | None = None
    type: str | None = None
    object: str | None = None
    usage: UsageBlock | None = None
    message: "Answer | None" = None


class _Wrapped(msgspec.Struct, frozen=True, gc=False):
    """An event that carries the answer inside: Anthropic's first one, the last of a response.

    `x_groq` is where Groq's streams report what their client did not ask for.
    """

    type: str | None = None
    response: Answer | None = None
    message: Answer | None = None
    x_groq: Answer | None = None


_answer: Final = msgspec.json.Decoder(Answer)
_wrapped: Final = msgspec.json.Decoder(_Wrapped)
_STRUCTS: Final = {
    "usage": UsageBlock,
    "response": Answer,
    "message": Answer,
    "x_groq": Answer,
    "cache_creation": Details,
    "server_tool_use": Details,
}


def read_answer(content: bytes) -> Answer | None:
    """The document with its usage block, unwrapped. None when `content` holds none."""
    answer: Answer
    wrapped: _Wrapped
    try:
        try:
            answer = _answer.decode(content)
            if answer.usage is not None:
                return answer
            wrapped = _wrapped.decode(content)
        except msgspec.ValidationError:
            document = msgspec.json.decode(content)
            if type(document) is not dict:
                return None
            answer = _salvaged(Answer, document)
            if answer.usage is not None:
                return answer
            wrapped = _salvaged(_Wrapped, document)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    if wrapped.x_groq is not None and wrapped.x_groq.usage is not None:
        return msgspec.structs.replace(answer, usage=wrapped.x_groq.usage)
    inner = wrapped.response or wrapped.message
    if inner is None or inner.usage is None:
        return None
    if wrapped.type == MESSAGE_START:
        return msgspec.structs.replace(inner, type=MESSAGE_START)
    return inner


def text(value: Any) -> str | None:
    """A provider's name or id, cut to a bounded length; None for anything but text."""
    if type(value) is str and value:
        return value[:TEXT_CHARACTERS_MAX]
    return None


def as_json_text(value: Any) -> str:
    """A decoded value as JSON again, for counting; numbers no encoder takes come out as Python's."""
    try:
        return msgspec.json.encode(value).decode()
    except (OverflowError, RecursionError):
        return str(value)


def _salvaged(struct: Any, document: dict[str, Any]) -> Any:
    """The struct with every member of `document` that fits; one bad member spoils no other."""
    found: dict[str, Any] = {}
    for member in msgspec.structs.fields(struct):
        value = document.get(member.name)
        if value is None:
            continue
        nested = _STRUCTS.get(member.name)
        if nested is None and member.name.endswith("_details"):
            nested = Details
        if nested is not None:
            if type(value) is dict:
                found[member.name] = _salvaged(nested, value)
            continue
        try:
            found[member.name] = msgspec.convert(value, member.type)
        except msgspec.ValidationError:
            continue
    return struct(**found)
