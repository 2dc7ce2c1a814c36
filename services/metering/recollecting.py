"""A pending batch's records once more: the same byte ranges, wherever the stream holds them now.

Pure. A message of the batch may be gone and its bytes sent again later, cut differently; records
are what counts, and they are taken from each incarnation's recorded beginning to its recorded end.
"""

import msgspec

from contracts.checkpoint import Checkpoint, Pending, Position
from metering.parcels import Next, stand
from metering.ports import Message
from metering.reading import Gap, Taken


class Recollection:
    """Takes messages from the batch's first on until `missing` is empty."""

    def __init__(self, checkpoint: Checkpoint, pending: Pending) -> None:
        self._pending = pending
        self._positions = {
            name: _beginning(checkpoint.incarnations.get(name), name, offset)
            for name, offset in pending.from_offsets.items()
        }
        self.final = {**checkpoint.incarnations, **_landings(checkpoint, pending)}
        self.gaps: dict[str, Gap] = {}
        self.taken: dict[str, list[Taken]] = {name: [] for name in pending.from_offsets}
        self.missing = {
            name
            for name, offset in pending.from_offsets.items()
            if pending.positions[name].offset > offset
        }

    def booked(self, name: str) -> int:
        """How far the records of an incarnation have been found."""
        return self._positions[name].offset

    def take(self, message: Message) -> None:
        """Keep what belongs to the batch."""
        headers = message.headers
        if headers is None:
            return
        name = headers.incarnation.hex()
        if message.seq <= self._pending.last_seq:
            self._note_ahead(message, name, headers.offset + len(message.content))
        if name not in self.missing:
            return
        standing = stand(self._positions[name], headers, message.content, is_lost=False)
        if not isinstance(standing, Next):
            return
        target = self._pending.positions[name].offset
        self.taken[name] += [
            Taken(payload, end, headers.segment_no, message.seq)
            for payload, end in standing.records
            if end <= target
        ]
        self._positions[name] = standing.position
        if standing.position.offset >= target:
            self.missing.discard(name)

    def _note_ahead(self, message: Message, name: str, end: int) -> None:
        final = self.final.get(name)
        if end <= (0 if final is None else final.offset):
            return
        gap = self.gaps.get(name)
        self.gaps[name] = (
            Gap(message.seq, end) if gap is None else Gap(gap.first_seq, max(gap.ahead_to, end))
        )


def _beginning(known: Position | None, name: str, offset: int) -> Position:
    """Where the batch began; the hash there is known unless a gap was stepped over."""
    if known is not None and known.offset == offset and known.chain is not None:
        return msgspec.structs.replace(known, ended_at_ms=None)
    if known is None and offset == 0:
        return Position(0, name, 0, 0)
    return Position(offset, None, 0, 0, verify_to=offset)


def _landings(checkpoint: Checkpoint, pending: Pending) -> dict[str, Position]:
    """The batch's positions; what was found out about the ledger since it began is kept."""
    landings = {}
    for name, position in pending.positions.items():
        known = checkpoint.incarnations.get(name)
        if known is not None and known.verify_to > position.verify_to:
            position = msgspec.structs.replace(position, verify_to=known.verify_to)  # noqa: PLW2901
        landings[name] = position
    return landings
