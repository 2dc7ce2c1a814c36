"""Edits one member of a JSON object in its own text, leaving every other byte as it was."""

import re
from collections.abc import Iterator
from typing import Final

# Possessive throughout: one pass, and no memory of where one might have turned back, which for a
# string of many megabytes is a hundred bytes a character.
_STRING_TEXT: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_PLAIN_TEXT: Final = rb'[^"\[\]{}]*+'
_FLAT_TEXT: Final = rb"%b(?:%b%b)*+" % (_PLAIN_TEXT, _STRING_TEXT, _PLAIN_TEXT)

_SPACE: Final = re.compile(rb"[ \t\r\n]*+")
_STRING: Final = re.compile(_STRING_TEXT, re.DOTALL)
_SCALAR: Final = re.compile(rb"[^,\]}\s]++")
_TO_STRUCTURE: Final = re.compile(
    rb"%b(?:(?:%b|\[%b\]|\{%b\})%b)*+"
    % (_PLAIN_TEXT, _STRING_TEXT, _FLAT_TEXT, _FLAT_TEXT, _PLAIN_TEXT),
    re.DOTALL,
)
"""Up to the next bracket that does not close at once: strings and flat containers are passed over."""


class NotAnObject(ValueError):
    """The text is no JSON object, or is not well-formed where it had to be read."""


def _skip_space(text: bytes, position: int) -> int:
    found = _SPACE.match(text, position)
    return position if found is None else found.end()


def _skip_value(text: bytes, position: int) -> int:
    first = text[position : position + 1]
    if first == b'"':
        found = _STRING.match(text, position)
        if found is None:
            raise NotAnObject("unterminated string")
        return found.end()
    if first not in (b"{", b"["):
        found = _SCALAR.match(text, position)
        if found is None:
            raise NotAnObject("value expected")
        return found.end()
    depth = 1
    position += 1
    while depth:
        found = _TO_STRUCTURE.match(text, position)
        assert found is not None
        mark = text[found.end() : found.end() + 1]
        position = found.end() + 1
        if mark in (b"{", b"["):
            depth += 1
        elif mark in (b"}", b"]"):
            depth -= 1
        else:
            raise NotAnObject("unterminated value")
    return position


def member_span(text: bytes, name: bytes, start: int = 0) -> tuple[int, int] | None:
    """Where the value of the last member called `name` lies, [from, to), None when there is none.

    The object begins at or after `start`. The last one counts, as it does for JSON readers. A name
    written with escapes is not recognised. Raises NotAnObject.
    """
    span: tuple[int, int] | None = None
    wanted = b'"' + name + b'"'
    for key, position, end in members_in(text, start):
        if key == wanted:
            span = (position, end)
    return span


def names_of(text: bytes) -> Iterator[bytes]:
    """The names of an object's members with their quotes, as they are written, however often.

    Raises NotAnObject.
    """
    return (key for key, _, _ in members_in(text))


def members_in(text: bytes, start: int = 0) -> Iterator[tuple[bytes, int, int]]:
    """Each name of an object with its quotes, and where its value lies, [from, to).

    Raises NotAnObject.
    """
    position = _skip_space(text, start)
    if text[position : position + 1] != b"{":
        raise NotAnObject("object expected")
    position = _skip_space(text, position + 1)
    while text[position : position + 1] == b'"':
        key = _STRING.match(text, position)
        if key is None:
            raise NotAnObject("unterminated name")
        position = _skip_space(text, key.end())
        if text[position : position + 1] != b":":
            raise NotAnObject("colon expected")
        position = _skip_space(text, position + 1)
        end = _skip_value(text, position)
        yield key.group(), position, end
        position = _skip_space(text, end)
        if text[position : position + 1] == b",":
            position = _skip_space(text, position + 1)


def insert_first(text: bytes, member: bytes) -> bytes:
    """The object with `member` (name and value, as text) put first. Raises NotAnObject."""
    brace = _skip_space(text, 0)
    if text[brace : brace + 1] != b"{":
        raise NotAnObject("object expected")
    after = _skip_space(text, brace + 1)
    comma = b"" if text[after : after + 1] == b"}" else b","
    return text[: brace + 1] + member + comma + text[brace + 1 :]


def replace_span(text: bytes, span: tuple[int, int], value: bytes) -> bytes:
    """The text with the bytes of `span` replaced."""
    return text[: span[0]] + value + text[span[1] :]
