"""Identities: time-ordered, made by us, sixteen bytes on the wire and UUID text for people."""

import os
import struct
import time
import uuid
from collections.abc import Callable
from typing import Final

EventId = bytes
"""Sixteen bytes of a UUIDv7 (RFC 9562 §5.7): the only identity of an exchange."""

_RAND_A_MASK: Final = 0x0FFF
_RAND_B_MASK: Final = (1 << 62) - 1
_VERSION: Final = 7 << 12
_VARIANT: Final = 2 << 62
_CHANCE: Final = struct.Struct(">HQ")
_HALVES: Final = struct.Struct(">QQ")
_POOL_BYTES: Final = 8192


class EventIdMaker:
    """Makes UUIDv7 values as sixteen bytes, cheaply: one read of the kernel's chance per thousand.

    `now_ns` is Unix time in nanoseconds, UTC.
    """

    __slots__ = ("_now_ns", "_pool", "_position")

    def __init__(self, now_ns: Callable[[], int] = time.time_ns) -> None:
        self._now_ns = now_ns
        self._pool = b""
        self._position = 0

    def __call__(self) -> EventId:
        position = self._position
        if position + _CHANCE.size > len(self._pool):
            self._pool = os.urandom(_POOL_BYTES)
            position = 0
        self._position = position + _CHANCE.size
        rand_a, rand_b = _CHANCE.unpack_from(self._pool, position)
        return _HALVES.pack(
            (self._now_ns() // 1_000_000) << 16 | _VERSION | rand_a & _RAND_A_MASK,
            _VARIANT | rand_b & _RAND_B_MASK,
        )


new_id = EventIdMaker()


def to_text(value: bytes) -> str:
    """Sixteen bytes as UUID text."""
    return str(uuid.UUID(bytes=value))


def from_text(text: str) -> bytes:
    """UUID text as sixteen bytes. Raises ValueError when it is not a UUID."""
    return uuid.UUID(text).bytes


def unix_ms(value: EventId) -> int:
    """The Unix time in milliseconds inside a UUIDv7."""
    return int.from_bytes(value[:6], "big")


_ENTRY_NAMESPACE: Final = uuid.UUID("6f1f3c1e-7f0a-5a53-9d5e-0a3f0b5a7c11")


def entry_id(event_id: EventId, attempt_no: int, kind: str, run_id: bytes) -> uuid.UUID:
    """The deterministic identity of a ledger entry: the same facts give the same id at every try.

    UUIDv5 (RFC 9562 §5.5) over event, attempt, kind and the run that wrote it.
    """
    name = f"{event_id.hex()}:{attempt_no}:{kind}:{run_id.hex()}"
    return uuid.uuid5(_ENTRY_NAMESPACE, name)
