"""Models that a body names beside its own: a key with a list of models is judged by these too."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final

import msgspec

from rating.json_location import MISSING, Location, NotReadable, parse_location

UNREADABLE: Final = ""
"""Stands for models where there should be some, and nobody can say which. No list holds it."""

_decode = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_text = msgspec.json.Decoder(str).decode


class _Named(msgspec.Struct):
    model: msgspec.Raw = msgspec.Raw()


_decode_named = msgspec.json.Decoder(_Named).decode


def named_in(lists: Iterable[bytes]) -> tuple[str, ...]:
    """The models in JSON lists of names, or of objects of which some have a `model`."""
    names: list[str] = []
    try:
        for text in lists:
            for element in _decode(text) if text != b"null" else ():
                names += _named(bytes(element))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        names.append(UNREADABLE)
    return tuple(names)


def named_at(body: bytes, places: Iterable[str]) -> tuple[str, ...]:
    """The models at these locations of a JSON body, each once, in their order."""
    names: dict[str, None] = {}
    try:
        for place in places:
            _gather(_location(place).find_in(body), names)
    except NotReadable:
        names[UNREADABLE] = None
    return tuple(names)


def _named(element: bytes) -> list[str]:
    if element[:1] == b"{":
        element = bytes(_decode_named(element).model)
    if not element or element == b"null":
        return []
    return [_decode_text(element)]


def _gather(found: Any, names: dict[str, None]) -> None:
    if isinstance(found, list):
        for one in found:
            _gather(one, names)
    elif isinstance(found, str):
        names[found] = None
    elif found is not MISSING and found is not None:
        names[UNREADABLE] = None


@lru_cache(maxsize=64)
def _location(place: str) -> Location:
    return parse_location(place)
