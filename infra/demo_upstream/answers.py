"""Requests as the demo reads them, and what every dialect needs to answer one."""

import itertools
import time
from typing import Any, Final, Protocol

import msgspec

from infra.demo_upstream.asked import Asked
from infra.demo_upstream.usage import (
    WORDS_DEFAULT,
    WORDS_WRITTEN_MAX,
    Usage,
    text_of,
    tokens_of,
)

CHUNKS_DEFAULT: Final = 8


_SOFT: Final = (b'"auto"', b'"none"')
CHOICES_MAX: Final = 16


class Function(msgspec.Struct):
    """Of a tool in chat completions."""

    name: str


class Tool(msgspec.Struct):
    """A tool of either dialect: named itself, or by its function."""

    name: str | None = None
    function: Function | None = None


_tools: Final = msgspec.json.Decoder(list[Tool])


class StreamOptions(msgspec.Struct):
    """Of chat completions and completions."""

    include_usage: bool | None = None


class Request(msgspec.Struct):
    """The members of any dialect's request that shape the answer; all others pass unread."""

    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    messages: msgspec.Raw = msgspec.Raw()
    prompt: msgspec.Raw = msgspec.Raw()
    input: msgspec.Raw = msgspec.Raw()
    system: msgspec.Raw = msgspec.Raw()
    instructions: msgspec.Raw = msgspec.Raw()
    tools: msgspec.Raw = msgspec.Raw()
    tool_choice: msgspec.Raw = msgspec.Raw()
    n: int | None = None
    metadata: dict[str, Any] | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    max_output_tokens: int | None = None
    dimensions: int | None = None
    encoding_format: str | None = None

    @property
    def tool_called(self) -> str | None:
        """The first tool's name where the request insists on a call, as either dialect does."""
        choice = bytes(self.tool_choice)
        if not self.tools or choice in (b"", b"null") or any(soft in choice for soft in _SOFT):
            return None
        for tool in _tools.decode(self.tools):
            return tool.name or (tool.function.name if tool.function else None)
        return None

    @property
    def words_max(self) -> int | None:
        """The client's own limit on the answer."""
        return self.max_completion_tokens or self.max_output_tokens or self.max_tokens


class Stream(msgspec.Struct):
    """An answer as server-sent events: what precedes the content, the content, what ends it."""

    opening: list[bytes]
    content: list[bytes]
    closing: list[bytes]


class Made(msgspec.Struct, frozen=True):
    """What an answer is made of."""

    id: str
    created: int
    model: str
    text: str
    usage: Usage
    asked: Asked
    reaches_limit: bool

    @property
    def pieces(self) -> list[str]:
        """The text as the content events of a stream."""
        return pieces_of(self.text, self.asked.chunks)


class Dialect(Protocol):
    """One path of a provider: pure, from request to bytes."""

    def whole(self, request: Request, made: Made) -> bytes:
        """The JSON answer."""

    def stream(self, request: Request, made: Made) -> Stream | None:
        """The answer as events; None where the path has no streams."""


_serial = itertools.count(1)


def make(request: Request, asked: Asked, prefix: str) -> Made:
    """Decide text and usage of an answer."""
    limit = request.words_max
    words = WORDS_DEFAULT if limit is None else min(limit, 4_096)
    usage = asked.usage
    if usage is None:
        read = (request.messages, request.prompt, request.input, request.system)
        also = (request.instructions, request.tools)
        prompt = sum(tokens_of(raw) for raw in read + also)
        usage = Usage(prompt, words)
    else:
        words = min(usage.completion, WORDS_WRITTEN_MAX)
    text = text_of(words)
    if asked.content_bytes is not None:
        text = text_of(asked.content_bytes // 4 + 1).ljust(asked.content_bytes)
        text = text[: asked.content_bytes]
    return Made(
        id=f"{prefix}demo-{next(_serial):08x}",
        created=int(time.time()),
        model=asked.model or request.model or "",
        text=text,
        usage=usage,
        asked=asked,
        reaches_limit=limit is not None and usage.completion >= limit,
    )


def pieces_of(text: str, count: int | None) -> list[str]:
    """The text cut into `count` pieces (some empty when it is short); by words when None."""
    if count is None:
        words = text.split(" ")
        count = min(CHUNKS_DEFAULT, len(words))
        size = -(-len(words) // count)
        joined = [" ".join(words[at : at + size]) for at in range(0, len(words), size)]
        return [piece if at == 0 else " " + piece for at, piece in enumerate(joined)]
    if count == 0:
        return []
    size = max(1, -(-len(text) // count))
    pieces = [text[at : at + size] for at in range(0, len(text), size)] or [""]
    return pieces + [""] * (count - len(pieces))


def data(value: Any) -> bytes:
    """A server-sent event without a name."""
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


def named(name: str, value: dict[str, Any]) -> bytes:
    """A server-sent event whose `type` is its name too."""
    encoded = msgspec.json.encode({"type": name, **value})
    return b"event: " + name.encode() + b"\ndata: " + encoded + b"\n\n"
