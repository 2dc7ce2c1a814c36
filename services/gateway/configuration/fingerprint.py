"""A number that tells two configurations apart, and that the database can work out as well."""

from hashlib import sha256
from typing import Final

FINGERPRINT_BITS: Final = 60
_DIGITS: Final = FINGERPRINT_BITS // 4
_MASK: Final = (1 << FINGERPRINT_BITS) - 1


def fingerprint_of(kind: str, item_id: str, revision: int) -> int:
    """Of one value at one revision: the first 60 bits of a SHA-256."""
    text = f"{kind} {item_id} {revision}".encode()
    return int(sha256(text).hexdigest()[:_DIGITS], 16)


def added(total: int, one: int) -> int:
    """The fingerprint of a configuration with one more."""
    return (total + one) & _MASK


def taken(total: int, one: int) -> int:
    """The fingerprint of a configuration with one less."""
    return (total - one) & _MASK


def as_text(total: int) -> str:
    """As state files show it."""
    return f"{total:0{_DIGITS}x}"
