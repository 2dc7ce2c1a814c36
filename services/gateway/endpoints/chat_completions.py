"""OpenAI's chat completions: what the gateway reads of the body, and the one member it adds."""

from hashlib import sha256
from typing import Final

import msgspec

from gateway.endpoints.json_text import insert_first, member_span, replace_span
from gateway.values import Call, Refusal

MODEL_CHARS_MAX: Final = 512
USER_CHARS_MAX: Final = 512
_ASK: Final = b'{"include_usage":true}'
_ABSENT: Final = msgspec.Raw()


class _Body(msgspec.Struct):
    """Every member may hold anything: what it means is the provider's to judge.

    Kept as text, so that a member of a million empty lists does not become a million objects.
    """

    model: msgspec.Raw = _ABSENT
    stream: msgspec.Raw = _ABSENT
    user: msgspec.Raw = _ABSENT
    stream_options: msgspec.Raw = _ABSENT


class _Options(msgspec.Struct):
    include_usage: msgspec.Raw = _ABSENT


_decode = msgspec.json.Decoder(_Body).decode
_decode_options = msgspec.json.Decoder(_Options).decode
_decode_text = msgspec.json.Decoder(str).decode


def parse(body: bytes) -> Call:
    """Raises Refusal (400) when the body is empty, not JSON, not an object, or names no model."""
    if not body:
        raise Refusal(400, "invalid_request_error", "empty_body", "the request body is empty")
    try:
        read = _decode(body)
        model = _text(read.model)
        user = _text(read.user)
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
    except RecursionError:
        raise Refusal(
            400, "invalid_request_error", "invalid_json", "the request body is nested too deeply"
        ) from None
    if not model:
        raise Refusal(
            400,
            "invalid_request_error",
            "missing_required_parameter",
            "you must provide a model parameter",
            param="model",
        )
    if len(model) > MODEL_CHARS_MAX:
        raise Refusal(
            400,
            "invalid_request_error",
            "invalid_model",
            f"model is longer than {MODEL_CHARS_MAX} characters",
            param="model",
        )
    return Call(
        model=model,
        is_streaming=bytes(read.stream) == b"true",
        user_id=_user_id(user),
        asks_usage=_asks_usage(bytes(read.stream_options)),
    )


def _text(raw: msgspec.Raw) -> str | None:
    """A JSON text, None for anything else."""
    text = bytes(raw)
    return _decode_text(text) if text[:1] == b'"' else None


def _asks_usage(options: bytes) -> bool:
    if options[:1] != b"{":
        return False
    return bytes(_decode_options(options).include_usage) == b"true"


def _user_id(user: str | None) -> str | None:
    """The end user as recorded: a text of any length goes to the provider, not into the books."""
    if user is None or len(user) <= USER_CHARS_MAX:
        return user
    return "sha256:" + sha256(user.encode("utf-8", "surrogatepass")).hexdigest()


def ask_usage(body: bytes) -> bytes:
    """The body with `stream_options.include_usage` true; every other byte as the client sent it."""
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
