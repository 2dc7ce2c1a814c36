"""Refusals in the shape of each surface."""

from collections.abc import Callable
from typing import Final

import msgspec

from contracts.ids import to_text
from gateway.ports import HeaderPairs
from gateway.values import Endpoint, Refusal

ErrorBody = Callable[[Refusal, str | int], bytes]


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


_BY_DIALECT: Final[dict[str, ErrorBody]] = {"openai": _openai}


def error_shower(
    error_code: str,
) -> Callable[[Endpoint | None, Refusal, bytes], tuple[HeaderPairs, bytes]]:
    """How refusals are shown; `error_code` is `string` (OpenAI's own) or `status` (an integer)."""

    def show(
        endpoint: Endpoint | None, refusal: Refusal, event_id: bytes
    ) -> tuple[HeaderPairs, bytes]:
        dialect = "openai" if endpoint is None else endpoint.dialect
        code = refusal.status if error_code == "status" else refusal.code
        body = _BY_DIALECT[dialect](refusal, code)
        headers: HeaderPairs = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"x-request-id", to_text(event_id).encode()),
        ]
        if refusal.retry_after_s is not None:
            headers.append((b"retry-after", b"%d" % refusal.retry_after_s))
        return headers, body

    return show
