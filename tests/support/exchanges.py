"""Builds finished exchanges for tests of counting."""

from typing import Any

import msgspec

from contracts.exchange import Attempt, Body, Caller, CallFacts, ExchangeCompleted, SettingRef


def body_of(content: bytes | dict[str, Any] | list[Any], *, whole_bytes: int | None = None) -> Body:
    """A body, cut when `whole_bytes` says that there was more."""
    raw = content if isinstance(content, bytes) else msgspec.json.encode(content)
    if whole_bytes is None:
        return Body(raw, len(raw), None)
    return Body(raw, whole_bytes, b"\x01" * 32)


def sse_of(*events: dict[str, Any], done: bool = True) -> bytes:
    """Events as a stream."""
    lines = b"".join(b"data: " + msgspec.json.encode(event) + b"\n\n" for event in events)
    return lines + b"data: [DONE]\n\n" if done else lines


def exchange_of(
    request: Any,
    response: Any,
    *,
    content_type: str = "application/json",
    usage_document: dict[str, Any] | bytes | None = None,
    path: str = "/v1/chat/completions",
    operation: str = "chat",
    model: str | None = "gpt-4o",
    status: int | None = 200,
    outcome: Any = "answered",
    method: str = "POST",
    attempts: int = 1,
) -> ExchangeCompleted:
    """An exchange with a provider that answered `status` to its last attempt."""
    request = request if isinstance(request, Body) else body_of(request)
    response = response if isinstance(response, Body) else body_of(response)
    if isinstance(usage_document, dict):
        usage_document = msgspec.json.encode(usage_document)
    attempt = Attempt(SettingRef("setting", 1, "openai"), model, status, None, 0, 1000, 500, None)
    return ExchangeCompleted(
        event_id=b"\x01" * 16,
        admitted_at_ms=1_793_448_000_000,
        caller=Caller("key", None, None, ()),
        call=CallFacts(method, path, path, "", operation, model, False, request.length_bytes),
        outcome=outcome,
        status=status or 0,
        error=None,
        request=request,
        response=response,
        response_content_type=content_type,
        usage_document=usage_document,
        duration_us=1000,
        first_byte_us=500,
        attempts=(attempt,) * attempts,
        cost_map=None,
        policy_action="",
        policy_id="",
        route_id="",
        correlation_id="c",
        metadata=None,
        stores_request=False,
        stores_response=False,
        was_admitted=True,
    )
