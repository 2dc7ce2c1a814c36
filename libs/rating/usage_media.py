"""Usage of pictures and sound: which tokens are whose, and what is sold by piece, second, letter."""

import math
import re
from typing import Any, Final

import msgspec

from contracts.exchange import Body, ExchangeCompleted
from contracts.meters import Evidence, Meter, Usage
from rating.usage_block import TEXT_CHARACTERS_MAX, Answer, text

_IMAGES: Final = frozenset({"image_generation", "image_edit", "image_variation"})
_SPEECH: Final = "audio_speech"
_HEARD: Final = frozenset({"audio_transcription", "audio_translation"})
MEDIA_OPERATIONS: Final = _IMAGES | _HEARD | {_SPEECH}
_SECONDS_MAX: Final = 10**9
_FIELD: Final = (
    rb'\r\nContent-Disposition: *form-data; *name="?model"?\r\n(?:[^\r\n]+\r\n)*\r\n([^\r\n]*)\r\n'
)
_BOUNDARY_BYTES_MAX: Final = 256


class _Made(msgspec.Struct, frozen=True, gc=False):
    """An answer of pictures or of what was heard."""

    data: tuple[msgspec.Raw, ...] | None = None
    duration: Any = None


class _Said(msgspec.Struct, frozen=True, gc=False):
    """A request to say something."""

    input: str


_decode_made: Final = msgspec.json.Decoder(_Made).decode
_decode_said: Final = msgspec.json.Decoder(_Said).decode


def media_usage(event: ExchangeCompleted, answer: Answer | None, usage: Usage | None) -> Usage:
    """The usage of an answered exchange of pictures or sound, given what its answer reported.

    Output tokens that the answer does not divide are of what the operation makes. Without reported
    usage: pictures are counted by the piece, what was heard by its stated `duration`, what is to be
    said by its characters. Nothing of that there: no quantities, which is unknown, not zero.
    """
    operation = event.call.operation
    if usage is not None:
        if operation in _HEARD or not _is_undivided(answer):
            return usage
        made = Meter.IMAGE_OUTPUT if operation in _IMAGES else Meter.AUDIO_OUTPUT
        quantities = dict(usage.quantities)
        tokens = quantities.pop(Meter.OUTPUT_TEXT, None)
        if tokens is not None:
            quantities[made] = tokens
        return msgspec.structs.replace(usage, quantities=quantities)
    found: dict[Meter, int] = {}
    evidence = Evidence.COUNTED
    if operation == _SPEECH:
        found = _characters(event.request)
    else:
        made_of = _made(event)
        if made_of is not None and operation in _IMAGES and made_of.data is not None:
            found = {Meter.IMAGES: len(made_of.data)}
        elif made_of is not None and operation in _HEARD:
            found, evidence = _duration(made_of.duration), Evidence.REPORTED
    if not found:
        evidence = Evidence.NONE
    return Usage(found, None, None, evidence, None, None, None)


def model_in_form(request: Body) -> str | None:
    """The `model` of a multipart form, None when the bytes at hand name none."""
    content = request.content
    end = content.find(b"\r\n", 0, _BOUNDARY_BYTES_MAX)
    if end < 0 or not content.startswith(b"--"):
        return None
    found = re.search(re.escape(content[:end]) + _FIELD, content, re.IGNORECASE)
    if found is None or len(found.group(1)) > TEXT_CHARACTERS_MAX:
        return None
    return text(found.group(1).decode("utf-8", "replace"))


def _is_undivided(answer: Answer | None) -> bool:
    block = None if answer is None else answer.usage
    if block is None:
        return False
    return block.output_tokens_details is None and block.output_token_details is None


def _made(event: ExchangeCompleted) -> _Made | None:
    response = event.response
    if response.sha256 is not None or "json" not in event.response_content_type:
        return None
    try:
        return _decode_made(response.content)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None


def _characters(request: Body) -> dict[Meter, int]:
    if request.sha256 is not None:
        return {}
    try:
        return {Meter.CHARACTERS: len(_decode_said(request.content).input)}
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return {}


def _duration(value: Any) -> dict[Meter, int]:
    """Milliseconds, of seconds as a number or as a text."""
    if type(value) is str and len(value) <= TEXT_CHARACTERS_MAX:
        try:
            value = float(value)
        except ValueError:
            return {}
    if type(value) not in (int, float) or not math.isfinite(value):
        return {}
    return {Meter.AUDIO_MS: round(value * 1000)} if 0 <= value < _SECONDS_MAX else {}
