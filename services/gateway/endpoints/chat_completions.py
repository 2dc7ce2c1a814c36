"""OpenAI's chat completions: what the gateway reads of the body, and the one member it adds."""

from hashlib import sha256
from typing import Any, Final

import msgspec

from gateway.endpoints.json_text import insert_first, member_span, replace_span
from gateway.values import Call, Refusal

MODEL_CHARS_MAX: Final = 512
USER_CHARS_MAX: Final = 512
_ASK: Final = b'{"include_usage":true}'


class _Body(msgspec.Struct):
    """Every member may hold anything: what it means is the provider's to judge."""

    model: Any = None
    stream: Any = None
    user: Any = None
    stream_options: Any = None


_decode = msgspec.json.Decoder(_Body).decode


def parse(body: bytes) -> Call:
    """Raises Refusal (400) when the body is empty, not JSON, not an object, or names no model."""
    if not body:
        raise Refusal(400, "invalid_request_error", "empty_body", "the request body is empty")
    try:
        read = _decode(body)
    except msgspec.DecodeError as error:
        raise Refusal(
            400,
            "invalid_request_error",
            "invalid_json",
            f"the request body is not a JSON object: {error}",
        ) from None
    except UnicodeDecodeError:
        raise Refusal(
            400, "invalid_request_error", "invalid_json", "the request body is not UTF-8"
        ) from None
    if not isinstance(read.model, str) or not read.model:
        raise Refusal(
            400,
            "invalid_request_error",
            "missing_required_parameter",
            "you must provide a model parameter",
            param="model",
        )
    if len(read.model) > MODEL_CHARS_MAX:
        raise Refusal(
            400,
            "invalid_request_error",
            "invalid_model",
            f"model is longer than {MODEL_CHARS_MAX} characters",
            param="model",
        )
    options = read.stream_options
    return Call(
        model=read.model,
        is_streaming=read.stream is True,
        user_id=_user_id(read.user),
        asks_usage=isinstance(options, dict) and options.get("include_usage") is True,
    )


def _user_id(user: Any) -> str | None:
    """The end user as recorded: a text of any length goes to the provider, not into the books."""
    if not isinstance(user, str):
        return None
    if len(user) <= USER_CHARS_MAX:
        return user
    return "sha256:" + sha256(user.encode("utf-8", "surrogatepass")).hexdigest()


def ask_usage(body: bytes) -> bytes:
    """The body with `stream_options.include_usage` true; every other byte as the client sent it."""
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
