"""Refusals in the shape of each surface."""

from collections.abc import Callable
from typing import Final

import msgspec

from contracts.ids import to_text
from gateway.ports import HeaderPairs
from gateway.values import Refusal


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


def error_event(dialect: str, body: bytes) -> bytes:
    """An error object as the event that ends a stream."""
    return (b"event: error\ndata: " if dialect == "anthropic" else b"data: ") + body + b"\n\n"


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
