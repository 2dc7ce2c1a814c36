"""The members of a body that the gateway writes; every other byte stays as the client sent it."""

from typing import Final

import msgspec

from gateway.endpoints.json_text import NotAnObject, insert_first, member_span, replace_span
from gateway.values import Refusal

_ASK: Final = b'{"include_usage":true}'
_decode_text = msgspec.json.Decoder(str).decode


def ask_usage(body: bytes) -> bytes:
    """The body with `stream_options.include_usage` true."""
    if b'"stream_options"' not in body:
        return insert_first(body, b'"stream_options":' + _ASK)
    span = member_span(body, b"stream_options")
    if span is None:
        return insert_first(body, b'"stream_options":' + _ASK)
    options = body[span[0] : span[1]]
    if not options.startswith(b"{"):
        return replace_span(body, span, _ASK)
    inner = member_span(options, b"include_usage")
    if inner is None:
        return replace_span(body, span, insert_first(options, b'"include_usage":true'))
    return replace_span(body, span, replace_span(options, inner, b"true"))


def with_model(body: bytes, asked: str, model: str) -> bytes:
    """The body with another model than the one it asked for.

    Raises Refusal (400) when the member is written so that not every reader finds the same model.
    """
    try:
        span = member_span(body, b"model")
        is_same = span is not None and _decode_text(body[span[0] : span[1]]) == asked
    except (NotAnObject, msgspec.DecodeError, UnicodeDecodeError):
        is_same = False
    if not is_same or span is None:
        raise Refusal(
            400,
            "invalid_request_error",
            "invalid_model",
            "the model parameter is written in an ambiguous way",
            param="model",
        )
    return replace_span(body, span, msgspec.json.encode(model))
