"""A long body without the value that makes it long, for those who look for its names."""

import re
from typing import Final

import msgspec

LONG_BYTES: Final = 1_024
"""Searching what is shorter takes less than taking a value out."""

_BEFORE_VALUE: Final = {
    name: re.compile(rb'"%b"[ \t\r\n]*+:[ \t\r\n]*+' % name.encode())
    for name in ("messages", "input", "prompt")
}


def without_longest(
    body: bytes, messages: msgspec.Raw, prompt: msgspec.Raw, input_: msgspec.Raw
) -> bytes:
    """The body without the longest of these values, as it is when it cannot be found.

    They are members of a body that has been decoded, hence well-formed: a name in quotes before a
    colon has a value, and a value that starts with all the bytes of another is that other one (or
    a longer number, of which some digits stay). Whatever it belongs to, it holds no name of a
    member of the body itself.
    """
    name, value = max(
        (("messages", messages), ("input", input_), ("prompt", prompt)),
        key=lambda member: len(member[1]),
    )
    found = _BEFORE_VALUE[name].search(body)
    if found is None or not body.startswith(value, found.end()):
        return body
    return body[: found.end()] + body[found.end() + len(value) :]
