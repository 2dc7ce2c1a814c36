"""The text of a client's key that Tollway made: who it is, a secret, and a checksum.

`op_` + public id (12) + secret (32) + checksum (6), each a run of base 62 digits (0-9, A-Z, a-z):
53 characters that a double click selects. The public id may be shown and logged. The secret is 190
bits of chance. The checksum is CRC-32 of all before it, in base 62 with the highest digit first: a
typing error is found without asking anybody, and a scanner knows a leaked key from a lookalike.
"""

import re
import secrets
import string
import zlib
from collections.abc import Callable
from typing import Final

import msgspec

PREFIX: Final = "op_"
PUBLIC_ID_CHARS: Final = 12
SECRET_CHARS: Final = 32
CHECKSUM_CHARS: Final = 6

_DIGITS: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
_SHAPE: Final = re.compile(
    rf"{PREFIX}[0-9A-Za-z]{{{PUBLIC_ID_CHARS + SECRET_CHARS + CHECKSUM_CHARS}}}"
)


class ClientKey(msgspec.Struct, frozen=True):
    """`text` is what its holder sends; `public_id` is the part of it that may be shown."""

    text: str
    public_id: str


def new_client_key(choose: Callable[[str], str] = secrets.choice) -> ClientKey:
    """A fresh one. `choose` picks a digit by chance."""
    public_id = "".join(choose(_DIGITS) for _ in range(PUBLIC_ID_CHARS))
    secret = "".join(choose(_DIGITS) for _ in range(SECRET_CHARS))
    stem = f"{PREFIX}{public_id}{secret}"
    return ClientKey(stem + _checksum(stem), public_id)


def is_shaped_as_client_key(text: str) -> bool:
    """Whether it looks like one of ours, mistyped or not. Keys that clients chose may be anything."""
    return _SHAPE.fullmatch(text) is not None


def public_id_of(text: str) -> str | None:
    """The public id of a key that we could have made; None of any other text."""
    if not is_shaped_as_client_key(text):
        return None
    stem = text[:-CHECKSUM_CHARS]
    if _checksum(stem) != text[-CHECKSUM_CHARS:]:
        return None
    return stem[len(PREFIX) : len(PREFIX) + PUBLIC_ID_CHARS]


def _checksum(stem: str) -> str:
    value = zlib.crc32(stem.encode())
    digits = ""
    for _ in range(CHECKSUM_CHARS):
        value, digit = divmod(value, len(_DIGITS))
        digits = _DIGITS[digit] + digits
    return digits
