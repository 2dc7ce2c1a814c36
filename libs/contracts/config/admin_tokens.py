"""A named credential for the admin API, and the text of one."""

import re
import secrets
import zlib
from hashlib import sha256
from typing import Final, Literal

import msgspec

Scope = Literal["read", "write", "keys"]

SCOPES: Final[tuple[Scope, ...]] = ("read", "write", "keys")

_PREFIX: Final = "tat_"
_RANDOM_BYTES: Final = 32
_TEXT: Final = re.compile(r"tat_[0-9a-f]{64}[0-9a-f]{8}")


class AdminToken(msgspec.Struct, frozen=True, omit_defaults=True):
    """`token_hash` is lower-case hex SHA-256 of what its holder sends. Times are Unix seconds.

    `read` sees everything, `write` changes everything, `keys` sees and changes keys and users.
    """

    id: str
    name: str
    token_hash: str
    scopes: tuple[Scope, ...]
    created_at: int
    updated_at: int
    expires_at: int | None = None


def new_token_text() -> str:
    """A fresh token: `tat_`, 256 bits of chance, and a checksum, in hex.

    The checksum lets scanners and us tell a mistyped one without asking the database.
    """
    chance = secrets.token_hex(_RANDOM_BYTES)
    return f"{_PREFIX}{chance}{_checksum(chance)}"


def is_token_text(text: str) -> bool:
    """Whether we could have made it."""
    return _TEXT.fullmatch(text) is not None and _checksum(text[4:-8]) == text[-8:]


def is_meant_as_token(text: str) -> bool:
    """Whether its sender took it for a token, mistyped or not."""
    return text.startswith(_PREFIX)


def hash_token(text: str) -> str:
    """What is stored of a token."""
    return sha256(text.encode()).hexdigest()


def _checksum(chance: str) -> str:
    return f"{zlib.crc32(chance.encode()):08x}"
