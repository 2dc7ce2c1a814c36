"""From a request's head and body to what is answered, without a byte of I/O."""

import time
from typing import Any, Final

import msgspec

from infra.demo_upstream import openai_others
from infra.demo_upstream.answers import Dialect, Made, Request, Stream, make
from infra.demo_upstream.anthropic_messages import Messages
from infra.demo_upstream.asked import NOTHING, Asked, BadAsk, asked_of
from infra.demo_upstream.openai_chat import ChatCompletions, Completions
from infra.demo_upstream.openai_embeddings import Embeddings
from infra.demo_upstream.openai_responses import Responses
from infra.demo_upstream.record import Record
from infra.demo_upstream.usage import tokens_of

MODELS: Final = (
    "gpt-4o",
    "gpt-4o-mini",
    "gpt-4.1",
    "gpt-4.1-mini",
    "text-embedding-3-small",
    "claude-sonnet-4-5",
)
_DIALECT_BY_ENDING: Final[tuple[tuple[str, Any], ...]] = (
    ("/chat/completions", ChatCompletions()),
    ("/completions", Completions()),
    ("/embeddings", Embeddings()),
    ("/responses", Responses()),
    ("/messages", Messages()),
)
_ERROR_TYPE_BY_STATUS: Final = {
    400: ("invalid_request_error", "invalid_request_error"),
    401: ("invalid_request_error", "authentication_error"),
    403: ("invalid_request_error", "permission_error"),
    404: ("invalid_request_error", "not_found_error"),
    405: ("invalid_request_error", "invalid_request_error"),
    413: ("invalid_request_error", "request_too_large"),
    429: ("rate_limit_exceeded", "rate_limit_error"),
    503: ("server_error", "overloaded_error"),
    529: ("server_error", "overloaded_error"),
}
_requests: Final = msgspec.json.Decoder(Request, strict=True)


class Head(msgspec.Struct):
    """What matters of a request's head; names of `said` have lost their `x-demo-`."""

    method: str
    path: str
    said: dict[str, str]
    custom_id: str | None
    has_credential: bool


class Plan(msgspec.Struct, frozen=True):
    """What to send. Exactly one of `body` and `events` counts: events when it is not None."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: bytes = b""
    events: Stream | None = None
    error_event: bytes = b""
    asked: Asked = NOTHING
    made: Made | None = None
    is_recorded: bool = False


def plan(head: Head, body: bytes, record: Record) -> Plan:
    """Decide the answer."""
    path = head.path.partition("?")[0]
    if path.startswith("/demo/"):
        return _own(head, path, record)
    if head.method == "GET" and path.rstrip("/").endswith("/models"):
        return Plan(200, _models())
    model = path.rpartition("/models/")[2]
    if head.method == "GET" and model in MODELS:
        return Plan(200, msgspec.json.encode(_model(model)))
    if head.method == "POST" and path.endswith("/messages/count_tokens"):
        return Plan(200, msgspec.json.encode({"input_tokens": tokens_of(body)}))
    other = openai_others.answer(head.method, path, body)
    if other is not None and other.status != 200:
        return _error(other.status, other.body.decode(), is_anthropic=False)
    if other is not None:
        return Plan(200, other.body, other.content_type)
    is_anthropic = path.endswith("/messages")
    dialect = next((d for ending, d in _DIALECT_BY_ENDING if path.endswith(ending)), None)
    if dialect is None:
        return _error(404, f"Unknown path {path}", is_anthropic=is_anthropic)
    if head.method != "POST":
        return _error(405, f"{head.method} is not allowed here", is_anthropic=is_anthropic)
    if not head.has_credential:
        return _error(401, "You didn't provide an API key", is_anthropic=is_anthropic)
    return _answer(head, body, dialect, is_anthropic=is_anthropic)


def _answer(head: Head, body: bytes, dialect: Dialect, *, is_anthropic: bool) -> Plan:
    try:
        request = _requests.decode(body)
        if request.model is None:
            # Azure's clients may leave it to the path.
            _, _, deployment = head.path.partition("/deployments/")
            request.model = deployment.partition("/")[0] or None
        if request.model is None:
            return _error(400, "A model is missing", is_anthropic=is_anthropic)
        said = head.said
        if request.metadata:
            said = _said_in(request.metadata) | said
        asked = asked_of(said)
    except (msgspec.DecodeError, BadAsk) as error:
        return _error(400, str(error), is_anthropic=is_anthropic)
    if asked.status != 200:
        message = f"The demo provider was asked to answer {asked.status}"
        return _error(asked.status, message, is_anthropic=is_anthropic, asked=asked)
    made = make(request, asked, dialect.prefix)  # type: ignore[attr-defined]
    headers = f"x-request-id: {made.id}\r\n".encode()
    events = dialect.stream(request, made) if request.stream else None
    if events is None:
        answer = dialect.whole(request, made)
        return Plan(200, answer, headers=headers, asked=asked, made=made, is_recorded=True)
    return Plan(
        200,
        b"",
        "text/event-stream; charset=utf-8",
        headers=headers + b"cache-control: no-cache\r\n",
        events=events,
        error_event=_error_event(head.path, is_anthropic=is_anthropic),
        asked=asked,
        made=made,
        is_recorded=True,
    )


def _said_in(metadata: dict[str, Any]) -> dict[str, str]:
    return {
        name.removeprefix("demo_").replace("_", "-"): str(value)
        for name, value in metadata.items()
        if name.startswith("demo_")
    }


def _own(head: Head, path: str, record: Record) -> Plan:
    if path == "/demo/record" and head.method == "GET":
        record.flush()
        return Plan(200, msgspec.json.encode(record.totals))
    if path == "/demo/record/rows" and head.method == "GET":
        return Plan(200, b"".join(record.rows()), "application/x-ndjson")
    if path == "/demo/record" and head.method == "DELETE":
        record.reset()
        return Plan(200, msgspec.json.encode(record.totals))
    if path == "/demo/health" and head.method == "GET":
        return Plan(200, b'{"status":"ok"}')
    return _error(404, f"Unknown path {path}", is_anthropic=False)


def _models() -> bytes:
    return msgspec.json.encode({"object": "list", "data": [_model(name) for name in MODELS]})


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": int(time.time()), "owned_by": "demo"}


def _error_value(status: int, message: str, *, is_anthropic: bool) -> dict[str, Any]:
    openai_type, anthropic_type = _ERROR_TYPE_BY_STATUS.get(
        status,
        ("server_error", "api_error") if status >= 500 else ("invalid_request_error",) * 2,
    )
    if is_anthropic:
        return {"type": "error", "error": {"type": anthropic_type, "message": message}}
    return {"error": {"message": message, "type": openai_type, "param": None, "code": None}}


def _error(status: int, message: str, *, is_anthropic: bool, asked: Asked = NOTHING) -> Plan:
    headers = b""
    if status in (429, 503):
        headers = f"retry-after: {asked.retry_after_s}\r\n".encode()
    value = _error_value(status, message, is_anthropic=is_anthropic)
    return Plan(status, msgspec.json.encode(value), headers=headers, asked=asked, is_recorded=True)


def _error_event(path: str, *, is_anthropic: bool) -> bytes:
    message = "The demo provider was asked to fail here"
    value = _error_value(500, message, is_anthropic=is_anthropic)
    if is_anthropic:
        return b"event: error\ndata: " + msgspec.json.encode(value) + b"\n\n"
    if path.partition("?")[0].endswith("/responses"):
        value = {"type": "error", "code": "server_error", "message": message, "param": None}
        return b"event: error\ndata: " + msgspec.json.encode(value) + b"\n\n"
    return b"data: " + msgspec.json.encode(value) + b"\n\n"
