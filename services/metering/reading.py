"""One batch's worth of parcels against the booked positions: what is new, ahead, forked, damaged.

Pure, and mutable only while a batch is being read; nothing of it outlives a failed batch.
"""

from typing import Final

import msgspec

from contracts.checkpoint import Position
from contracts.records import ParcelHeaders
from metering.parcels import Ahead, Forked, Next, stand
from metering.ports import DeadLetter, Message


class Taken(msgspec.Struct, frozen=True, gc=False):
    """A new record and where it stands."""

    payload: bytes
    offset: int
    segment_no: int
    seq: int


NOWHERE: Final = Position(0, None, 0, 0)
"""Where an incarnation stands that nothing is booked of."""


class Gap(msgspec.Struct):
    """Parcels that lie ahead of what is booked: the first one's sequence and the farthest end."""

    first_seq: int
    ahead_to: int


class Reading:
    """Takes messages in stream order; afterwards its attributes say what a batch would book."""

    def __init__(self, positions: dict[str, Position], gaps: dict[str, Gap]) -> None:
        self.positions = dict(positions)
        self.gaps = dict(gaps)
        self.from_offsets: dict[str, int] = {}
        self.taken: dict[str, list[Taken]] = {}
        self.ended: list[str] = []
        self.ends = 0
        self.letters: list[DeadLetter] = []
        self.first_seq = 0
        self.last_seq = 0
        self.last_published_ms = 0
        self.records = 0
        self.bytes = 0
        self.jumped_bytes = 0
        self.forks = 0
        self.damages: list[str] = []

    def take(self, message: Message, *, is_lost: bool, ended_at_ms: int) -> bool:
        """Judge one message; False when the batch has to be cut before it.

        `ended_at_ms` is noted when it is an END.
        """
        headers = message.headers
        if headers is None:
            self._see(message)
            self._reject(message, "not a parcel")
            return True
        name = headers.incarnation.hex()
        standing = stand(self.positions.get(name), headers, message.content, is_lost=is_lost)
        if isinstance(standing, Next) and standing.jumped_bytes and name in self.from_offsets:
            # A batch holds one byte range of an incarnation; beyond the gap begins another.
            return False
        self._see(message)
        if isinstance(standing, Next):
            self._go_on(message, name, standing, ended_at_ms)
        elif isinstance(standing, Ahead):
            self.note_gap(name, message.seq, headers.offset + len(message.content))
        elif isinstance(standing, Forked):
            self.forks += 1
            self._reject(message, f"fork: {standing.reason}")
        return True

    def pass_by(self, message: Message, headers: ParcelHeaders) -> None:
        """Leave a quarantined incarnation's parcel where it is; it stays needed."""
        self._see(message)
        self.note_gap(headers.incarnation.hex(), message.seq, headers.offset + len(message.content))

    def _see(self, message: Message) -> None:
        self.first_seq = self.first_seq or message.seq
        self.last_seq = message.seq
        self.last_published_ms = message.published_at_ms
        self.bytes += len(message.content)

    def _go_on(self, message: Message, name: str, standing: Next, ended_at_ms: int) -> None:
        headers = message.headers
        assert headers is not None
        position = standing.position
        if standing.damage is None and headers.is_end:
            position = msgspec.structs.replace(position, ended_at_ms=ended_at_ms)
            self.ends += 1
        self.positions[name] = position
        self.from_offsets.setdefault(name, standing.from_offset)
        taken = self.taken.setdefault(name, [])
        segment_no, seq = headers.segment_no, message.seq
        taken += [Taken(payload, end, segment_no, seq) for payload, end in standing.records]
        self.records += len(standing.records)
        self.jumped_bytes += standing.jumped_bytes
        if standing.damage is not None:
            self.damages.append(name)
            self._reject(message, f"damaged at offset {position.offset}: {standing.damage}")
            self.note_gap(name, message.seq, headers.offset + len(message.content))
        gap = self.gaps.get(name)
        if gap is not None and position.offset >= gap.ahead_to:
            del self.gaps[name]

    def note_gap(self, name: str, seq: int, ahead_to: int) -> None:
        """Remember that a parcel of an incarnation lies ahead of what is booked."""
        gap = self.gaps.get(name)
        if gap is None:
            self.gaps[name] = Gap(seq, ahead_to)
        else:
            self.gaps[name] = Gap(gap.first_seq, max(gap.ahead_to, ahead_to))

    def _reject(self, message: Message, reason: str) -> None:
        headers = message.headers
        self.letters.append(
            DeadLetter(
                identity=f"message:{message.seq}"
                if headers is None
                else f"parcel:{headers.incarnation.hex()}:{headers.offset}:{message.seq}",
                reason=reason,
                incarnation=None if headers is None else headers.incarnation,
                offset=0 if headers is None else headers.offset,
                seq=message.seq,
                content=message.content,
            )
        )
