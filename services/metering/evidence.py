"""What journals and stream say happened in a window: the events that a ledger has to hold. Pure.

Takes records from wherever they are kept; two places may say the same.
"""

import struct
from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from contracts.checkpoint import Position
from contracts.records import RECORD_HEADER, RECORD_HEADER_BYTES

_ADMITTED: Final = "request_admitted.v1"


class _Stamp(msgspec.Struct, frozen=True, array_like=True):
    """The first fields of every event."""

    type: str
    event_id: bytes
    admitted_at_ms: int


_decode_stamp = msgspec.msgpack.Decoder(_Stamp).decode
Where = Literal["booked", "waiting"]


class Gap(msgspec.Struct, frozen=True):
    """Bytes of a journal that nobody has: [from_offset, to_offset)."""

    incarnation: str
    from_offset: int
    to_offset: int


class Evidence:
    """Events of a window by what is known of them, and the byte ranges seen of each journal."""

    def __init__(self, positions: dict[str, Position], from_ms: int, to_ms: int) -> None:
        self._positions = positions
        self._from_ms, self._to_ms = from_ms, to_ms
        self._ranges: dict[str, set[tuple[int, int]]] = {}
        self.ended: dict[bytes, Where] = {}
        self.admitted: dict[bytes, Where] = {}
        self.unreadable = 0

    def take(self, incarnation: str, offset: int, content: bytes) -> None:
        """A byte range of a journal, cut at record boundaries; stops at damage."""
        position = self._positions.get(incarnation)
        booked = 0 if position is None else position.offset
        at, total = 0, len(content)
        while at + RECORD_HEADER_BYTES <= total:
            try:
                length, _ = RECORD_HEADER.unpack_from(content, at)
            except struct.error:
                break
            start, end = at + RECORD_HEADER_BYTES, at + RECORD_HEADER_BYTES + length
            if length == 0 or end > total:
                break
            self._note(content[start:end], "booked" if offset + end <= booked else "waiting")
            at = end
        self._ranges.setdefault(incarnation, set()).add((offset, offset + at))

    def _note(self, payload: bytes, where: Where) -> None:
        try:
            stamp = _decode_stamp(payload)
        except msgspec.DecodeError:
            self.unreadable += 1
            return
        if not self._from_ms <= stamp.admitted_at_ms < self._to_ms:
            return
        events = self.admitted if stamp.type == _ADMITTED else self.ended
        if events.get(stamp.event_id) != "booked":
            events[stamp.event_id] = where

    def gaps(self) -> list[Gap]:
        """Ranges that lie behind what is booked and before something that was seen."""
        gaps = []
        for name, ranges in sorted(self._ranges.items()):
            position = self._positions.get(name)
            reached = 0 if position is None else position.offset
            for begin, end in sorted(ranges):
                if begin > reached and not (position is None and reached == 0 and begin == 0):
                    gaps.append(Gap(name, reached, begin))
                reached = max(reached, end)
        return gaps

    def open(self, known: Iterable[bytes]) -> int:
        """Admissions that neither an end nor the ledger knows of."""
        closed = set(known)
        return sum(1 for event in self.admitted if event not in self.ended and event not in closed)
