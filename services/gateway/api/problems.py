"""Refusals in the shape of each surface."""

from collections.abc import Callable
from typing import Final

import msgspec

from contracts.ids import to_text
from gateway.ports import HeaderPairs
from gateway.values import Endpoint, Refusal


def _openai(refusal: Refusal, code: str | int) -> bytes:
    return msgspec.json.encode(
        {
            "error": {
                "message": refusal.message,
                "type": refusal.kind,
                "param": refusal.param,
                "code": code,
            }
        }
    )


def _anthropic(refusal: Refusal, request_id: str) -> bytes:
    kind = _ANTHROPIC_TYPES.get(refusal.status, "api_error")
    return msgspec.json.encode(
        {
            "type": "error",
            "error": {"type": kind, "message": refusal.message},
            "request_id": request_id,
        }
    )


_ANTHROPIC_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "invalid_request_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
}


def error_event_shower(error_code: str) -> Callable[[Endpoint, Refusal, bytes], bytes]:
    """How a stream that breaks says so: the event that the dialect has for it."""

    def show(endpoint: Endpoint, refusal: Refusal, event_id: bytes) -> bytes:
        code = refusal.status if error_code == "status" else refusal.code
        if endpoint.dialect == "anthropic":
            return b"event: error\ndata: %b\n\n" % _anthropic(refusal, to_text(event_id))
        if endpoint.operation == "responses":
            body = {"type": "error", "code": code, "message": refusal.message, "param": None}
            return b"event: error\ndata: %b\n\n" % msgspec.json.encode(body)
        return b"data: %b\n\n" % _openai(refusal, code)

    return show


def error_shower(error_code: str) -> Callable[[str, Refusal, bytes], tuple[HeaderPairs, bytes]]:
    """How refusals are shown; `error_code` is `string` (OpenAI's own) or `status` (an integer)."""

    def show(dialect: str, refusal: Refusal, event_id: bytes) -> tuple[HeaderPairs, bytes]:
        request_id = to_text(event_id)
        headers: HeaderPairs = [
            (b"content-type", b"application/json"),
            (b"x-request-id", request_id.encode()),
        ]
        if dialect == "anthropic":
            body = _anthropic(refusal, request_id)
            headers.append((b"request-id", request_id.encode()))
        else:
            body = _openai(refusal, refusal.status if error_code == "status" else refusal.code)
        headers.append((b"content-length", b"%d" % len(body)))
        if refusal.retry_after_s is not None:
            headers.append((b"retry-after", b"%d" % refusal.retry_after_s))
        return headers, body

    return show
