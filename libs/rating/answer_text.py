"""What a model said, out of an answer without usage: a JSON document or the events of a stream."""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from contracts.exchange import Body
from rating.usage_block import as_json_text, text

_DELTAS: Final = {
    "response.output_text.delta": "text",
    "response.refusal.delta": "text",
    "response.function_call_arguments.delta": "tool",
    "response.reasoning_text.delta": "reasoning",
    "response.reasoning_summary_text.delta": "reasoning",
}
_LAST_EVENTS: Final = frozenset({"response.completed", "response.incomplete", "message_stop"})
_UNFINISHED: Final = frozenset({"queued", "in_progress", "failed", "cancelled"})
"""States of a response that say nothing of what it used: it goes on, or nobody knows."""
_DEPTH_MAX: Final = 8


class Said:
    """What was found in an answer.

    `is_plain` while it is text alone; `is_whole` when the answer shows its own end. `scale` is
    (whole bytes, bytes at hand) of an answer that was cut. `usage_document` is the last document
    that had a usage block after all.
    """

    __slots__ = (
        "_parts",
        "is_plain",
        "is_recognised",
        "is_whole",
        "model",
        "response_id",
        "scale",
        "service_tier",
        "usage_document",
    )

    def __init__(self) -> None:
        self._parts: dict[tuple[str, object, object], list[str]] = {}
        self.is_recognised = False
        self.is_plain = True
        self.is_whole = False
        self.scale: tuple[int, int] | None = None
        self.model: str | None = None
        self.response_id: str | None = None
        self.service_tier: str | None = None
        self.usage_document: bytes | None = None

    def texts(self, *, reasoning: bool) -> list[str]:
        """The texts, each choice and call joined from its pieces."""
        return [
            "".join(pieces)
            for (kind, _, _), pieces in self._parts.items()
            if (kind == "reasoning") is reasoning
        ]

    def add(self, kind: str, value: Any, choice: object = 0, part: object = 0) -> None:
        if type(value) is str and value:
            self._parts.setdefault((kind, _key(choice), _key(part)), []).append(value)
            if kind != "text":
                self.is_plain = False


def read_answer_text(body: Body, content_type: str) -> Said | None:
    """What the body of an answer says; None when it cannot be read as one."""
    said = Said()
    if "event-stream" in content_type:
        said.is_recognised = True
        for event in _events(body.content):
            _read_event(said, event)
        if body.sha256 is not None and body.content:
            said.scale = (body.length_bytes, len(body.content))
            said.is_whole = False
        return said
    try:
        document = msgspec.json.decode(body.content)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        if body.sha256 is None or not body.content or "json" not in content_type:
            return None
        said.add("cut", body.content.decode("utf-8", "replace"))
        said.scale = (body.length_bytes, len(body.content))
        return said
    said.is_whole = body.sha256 is None
    if type(document) is dict:
        _read_document(said, document)
    return said if said.is_recognised else None


def _events(content: bytes) -> Iterator[bytes]:
    for line in content.splitlines():
        if line.startswith(b"data:"):
            yield line[5:].strip()


def _read_event(said: Said, event: bytes) -> None:
    if event == b"[DONE]":
        said.is_whole = True
        return
    try:
        document = msgspec.json.decode(event)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        said.is_plain = False
        return
    if type(document) is not dict:
        return
    response = document.get("response")
    if type(document.get("usage")) is dict or (
        type(response) is dict and type(response.get("usage")) is dict
    ):
        said.usage_document = event
    _read_document(said, document)


def _read_document(said: Said, document: dict[str, Any]) -> None:
    said.model = text(document.get("model")) or said.model
    said.response_id = text(document.get("id")) or said.response_id
    said.service_tier = text(document.get("service_tier")) or said.service_tier
    choices = document.get("choices")
    if type(choices) is list:
        said.is_recognised = True
        for choice in choices:
            if type(choice) is dict:
                _read_choice(said, choice)
        return
    kind = document.get("type")
    if type(kind) is str and (kind in _DELTAS or "." in kind or "_" in kind):
        _read_typed_event(said, kind, document)
    elif type(document.get("output")) is list:
        status = document.get("status")
        if type(status) is str and status in _UNFINISHED:
            return
        said.is_recognised = True
        _read_items(said, document["output"])
    elif kind == "message":
        said.is_recognised = True
        _read_items(said, document.get("content"))
    elif type(document.get("data")) is list:
        said.is_recognised = True
    elif type(document.get("completion")) is str:
        said.is_recognised = True
        said.add("text", document["completion"])


def _read_choice(said: Said, choice: dict[str, Any]) -> None:
    index = choice.get("index")
    if choice.get("finish_reason"):
        said.is_whole = True
    said.add("text", choice.get("text"), index)
    message = choice.get("delta")
    if type(message) is not dict:
        message = choice.get("message")
    if type(message) is not dict:
        return
    content = message.get("content")
    if type(content) is list:
        _read_items(said, content, index)
    said.add("text", content, index)
    said.add("text", message.get("refusal"), index, "refusal")
    for member in ("reasoning_content", "reasoning"):
        said.add("reasoning", message.get(member), index)
    if message.get("audio"):
        said.is_plain = False
    _read_function(said, message.get("function_call"), index, "call")
    calls = message.get("tool_calls")
    for call in calls if type(calls) is list else ():
        if type(call) is dict:
            _read_function(said, call.get("function"), index, call.get("index") or call.get("id"))


def _read_function(said: Said, function: Any, choice: object, part: object) -> None:
    if type(function) is dict:
        said.add("tool", function.get("name"), choice, (part, "name"))
        said.add("tool", function.get("arguments"), choice, (part, "arguments"))


def _read_typed_event(said: Said, kind: str, event: dict[str, Any]) -> None:
    """An event of a stream of responses or messages."""
    said.is_recognised = True
    if kind in _LAST_EVENTS:
        said.is_whole = True
    for member in ("response", "message"):
        inner = event.get(member)
        if type(inner) is dict:
            said.model = text(inner.get("model")) or said.model
            said.response_id = text(inner.get("id")) or said.response_id
    delta, block = event.get("delta"), event.get("content_block")
    index = event.get("output_index") or event.get("index")
    if type(block) is dict:
        said.add("tool", block.get("name"), index, "name")
        said.add("text", block.get("text"), index)
    if kind in _DELTAS:
        said.add(_DELTAS[kind], delta, index, event.get("content_index"))
    elif type(delta) is dict:
        said.add("text", delta.get("text"), index)
        said.add("tool", delta.get("partial_json"), index)
        said.add("reasoning", delta.get("thinking"), index)


def _read_items(said: Said, items: Any, choice: object = 0, depth: int = 0) -> None:
    """The output items of a response, or the content blocks of a message."""
    if type(items) is not list or depth >= _DEPTH_MAX:
        return
    for place, item in enumerate(items):
        if type(item) is not dict:
            continue
        kind = "reasoning" if item.get("type") in {"reasoning", "thinking"} else "text"
        part = (depth, place)
        said.add(kind, item.get("text"), choice, part)
        said.add("reasoning", item.get("thinking"), choice, part)
        said.add(kind, item.get("refusal"), choice, part)
        said.add("tool", item.get("name"), choice, (part, "name"))
        said.add("tool", item.get("arguments"), choice, (part, "arguments"))
        if item.get("input") is not None:
            said.add("tool", as_json_text(item["input"]), choice, (part, "input"))
        _read_items(said, item.get("content"), (choice, part), depth + 1)
        _read_items(said, item.get("summary"), (choice, part, "summary"), depth + 1)


def _key(value: object) -> object:
    """Something hashable out of whatever a provider sent as an index."""
    if type(value) is tuple:
        return tuple(_key(part) for part in value)
    return value if isinstance(value, str | int) else None
