"""What the gateway reads of a body: its model, whether it streams, and for whom it is.

Whatever cannot be read is said to hide its model, so that no shape of a body is a way around the
gates; what it means otherwise is the provider's to judge.
"""

from collections.abc import Callable
from hashlib import sha256
from typing import Final

import msgspec

from gateway.endpoints.json_text import names_of
from gateway.endpoints.long_values import LONG_BYTES, without_longest
from gateway.endpoints.other_models import named_at, named_in
from gateway.values import Call, Refusal

MODEL_CHARS_MAX: Final = 512
USER_CHARS_MAX: Final = 512
_ABSENT: Final = msgspec.Raw()
_BACKSLASH: Final = ord("\\")

SILENT: Final = Call(None, False, None, False)
"""A request that names no model: it reads, deletes or hands over something."""
HIDING: Final = Call(None, False, None, False, hides_model=True)
"""A request that may name a model where we do not see it."""


class _Body(msgspec.Struct):
    """Every member may hold anything.

    Kept as text, so that a member of a million empty lists does not become a million objects.
    """

    model: msgspec.Raw = _ABSENT
    stream: msgspec.Raw = _ABSENT
    user: msgspec.Raw = _ABSENT
    stream_options: msgspec.Raw = _ABSENT
    metadata: msgspec.Raw = _ABSENT
    messages: msgspec.Raw = _ABSENT
    prompt: msgspec.Raw = _ABSENT
    input: msgspec.Raw = _ABSENT
    background: msgspec.Raw = _ABSENT
    models: msgspec.Raw = _ABSENT
    fallbacks: msgspec.Raw = _ABSENT
    tools: msgspec.Raw = _ABSENT


class _Options(msgspec.Struct):
    include_usage: msgspec.Raw = _ABSENT


class _Metadata(msgspec.Struct):
    user_id: msgspec.Raw = _ABSENT


_decode = msgspec.json.Decoder(_Body).decode
_decode_options = msgspec.json.Decoder(_Options).decode
_decode_metadata = msgspec.json.Decoder(_Metadata).decode
_decode_text = msgspec.json.Decoder(str).decode


def silent(body: bytes) -> Call:  # noqa: ARG001
    """Of a request that has no body to speak of, or one that names no model."""
    return SILENT


def model_and_user(body: bytes) -> Call:
    """Where a model is required, in OpenAI's dialect. Raises Refusal (400) without one."""
    return _required(body, _openai)


def model_and_metadata(body: bytes) -> Call:
    """Where a model is required, in Anthropic's dialect. Raises Refusal (400) without one."""
    return _required(body, _anthropic)


def maybe_model(body: bytes) -> Call:
    """Where a model may be named, in OpenAI's dialect. Raises Refusal (400) for an absurd one."""
    return _optional(body, _openai)


def maybe_model_of_anthropic(body: bytes) -> Call:
    """Where a model may be named, in Anthropic's dialect. Raises Refusal (400) for an absurd one."""
    return _optional(body, _anthropic)


def _required(body: bytes, read: Callable[[bytes], Call]) -> Call:
    if not body:
        raise Refusal(400, "invalid_request_error", "empty_body", "the request body is empty")
    try:
        call = read(body)
    except msgspec.DecodeError as error:
        raise _unreadable(f"the request body is not a JSON object: {error}") from None
    except UnicodeDecodeError:
        raise _unreadable("the request body is not UTF-8") from None
    except RecursionError:
        raise _unreadable("the request body is nested too deeply") from None
    if not call.model:
        raise Refusal(
            400,
            "invalid_request_error",
            "missing_required_parameter",
            "you must provide a model parameter",
            param="model",
        )
    return call


def _optional(body: bytes, read: Callable[[bytes], Call]) -> Call:
    if body[:1] != b"{" and not body.lstrip(b" \t\r\n").startswith(b"{"):
        return HIDING
    try:
        call = read(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return HIDING
    return call if call.model else msgspec.structs.replace(call, model=None, hides_model=True)


def _openai(body: bytes) -> Call:
    read = _decode(body)
    _check_one_model(body, read)
    return Call(
        model=_model(_text(read.model)),
        is_streaming=_is_true(read.stream),
        user_id=None if read.user is _ABSENT else user_in_books(_text(read.user)),
        asks_usage=read.stream_options is not _ABSENT and _asks_usage(bytes(read.stream_options)),
        other_models=_others(read),
        is_deferred=_is_true(read.background),
    )


def _anthropic(body: bytes) -> Call:
    read = _decode(body)
    _check_one_model(body, read)
    metadata = bytes(read.metadata)
    user = _text(_decode_metadata(metadata).user_id) if metadata[:1] == b"{" else None
    return Call(
        model=_model(_text(read.model)),
        is_streaming=_is_true(read.stream),
        user_id=user_in_books(user),
        asks_usage=False,
        other_models=_others(read),
    )


def _others(read: _Body) -> tuple[str, ...]:
    """Of tools that have a model of their own, and of lists of whom to ask instead."""
    if read.tools is _ABSENT and read.models is _ABSENT and read.fallbacks is _ABSENT:
        return ()
    lists = [bytes(raw) for raw in (read.models, read.fallbacks) if raw is not _ABSENT]
    tools = bytes(read.tools)
    if b'"model"' in tools or b"\\u00" in tools:
        lists.append(tools)
    return named_in(lists) if lists else ()


def _check_one_model(body: bytes, read: _Body) -> None:
    """Raises Refusal (400) for a body that names two models: of which is meant readers differ.

    Some take the first of two members, and some are blind to upper and lower case.
    """
    searched = body
    if len(body) >= LONG_BYTES:
        searched = without_longest(body, read.messages, read.prompt, read.input)
    lowered = searched.lower()
    # The single byte first: it is found, or not, ten times as fast.
    is_escaped = _BACKSLASH in lowered and (b"\\u006" in lowered or b"\\u004" in lowered)
    if lowered.count(b'"model"') < 2 and not is_escaped:
        return
    names = [_decode_text(name) for name in names_of(body)]
    if sum(name.lower() == "model" for name in names) > 1:
        raise Refusal(
            400,
            "invalid_request_error",
            "invalid_model",
            "the model parameter is given more than once",
            param="model",
        )


def _is_true(raw: msgspec.Raw) -> bool:
    return raw is not _ABSENT and bytes(raw) == b"true"


def _model(model: str | None) -> str | None:
    if model is not None and len(model) > MODEL_CHARS_MAX:
        raise Refusal(
            400,
            "invalid_request_error",
            "invalid_model",
            f"model is longer than {MODEL_CHARS_MAX} characters",
            param="model",
        )
    return model


def _text(raw: msgspec.Raw) -> str | None:
    """A JSON text, None for anything else."""
    text = bytes(raw)
    return _decode_text(text) if text[:1] == b'"' else None


def _asks_usage(options: bytes) -> bool:
    if options[:1] != b"{":
        return False
    return bytes(_decode_options(options).include_usage) == b"true"


def user_in_books(user: str | None) -> str | None:
    """The end user as recorded: a text of any length goes to the provider, not into the books."""
    if user is None or len(user) <= USER_CHARS_MAX:
        return user
    return "sha256:" + sha256(user.encode("utf-8", "surrogatepass")).hexdigest()


def _unreadable(message: str) -> Refusal:
    return Refusal(400, "invalid_request_error", "invalid_json", message)


def _with_places(read: Callable[[bytes], Call], *places: str) -> Callable[[bytes], Call]:
    """A reader of bodies that name models at these places too."""

    def read_all(body: bytes) -> Call:
        call = read(body)
        if body[:1] != b"{" and not body.lstrip(b" \t\r\n").startswith(b"{"):
            return call
        named = named_at(body, places)
        if not named:
            return call
        if call.model is None and named[0]:
            return msgspec.structs.replace(
                call, model=_model(named[0]), other_models=named, hides_model=False
            )
        return msgspec.structs.replace(call, other_models=call.other_models + named)

    return read_all


_TRANSCRIPTION: Final = "input_audio_transcription.model", "audio.input.transcription.model"
session_of_realtime: Final = _with_places(
    maybe_model, "session.model", *(f"session.{place}" for place in _TRANSCRIPTION), *_TRANSCRIPTION
)
"""What a session is opened with; a model is named in it, or outside."""
evaluation: Final = _with_places(
    maybe_model, "data_source.model", "testing_criteria.#.model", "grader.model"
)
"""Who is judged, and who judges."""
batch_of_anthropic: Final = _with_places(maybe_model_of_anthropic, "requests.#.params.model")
"""Each of its requests names its own."""

MAY_NAME_MODEL: Final = frozenset(
    {
        maybe_model,
        maybe_model_of_anthropic,
        session_of_realtime,
        evaluation,
        batch_of_anthropic,
    }
)
"""Readers of bodies that may as well be forms."""
