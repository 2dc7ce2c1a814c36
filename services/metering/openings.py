"""Admissions whose end has not been booked, by incarnation, and which of them may be closed. Pure.

Closing goes by the journal's own time: once everything an incarnation wrote up to an admission's
timeout plus grace has been booked and no end was seen, there was none. Or its END is booked, or
its loss declared.
"""

from collections.abc import Iterable, Iterator

import msgspec

from contracts.checkpoint import Position
from contracts.exchange import RequestAdmitted


class Opening(msgspec.Struct, frozen=True):
    """An admission and where it stands."""

    admitted: RequestAdmitted
    incarnation: bytes
    segment_no: int
    offset: int
    seq: int


class Openings:
    """The open admissions of one partition."""

    def __init__(self, grace_ms: int) -> None:
        self._grace_ms = grace_ms
        self._by_incarnation: dict[bytes, dict[bytes, Opening]] = {}
        self._incarnation_by_event: dict[bytes, bytes] = {}
        self._next_deadline_ms: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._incarnation_by_event)

    def __contains__(self, event_id: bytes) -> bool:
        return event_id in self._incarnation_by_event

    def open(self, opening: Opening) -> None:
        """Remember an admission; the same one twice is one."""
        event_id = opening.admitted.event_id
        if event_id in self._incarnation_by_event:
            return
        incarnation = opening.incarnation
        self._incarnation_by_event[event_id] = incarnation
        self._by_incarnation.setdefault(incarnation, {})[event_id] = opening
        deadline = self._deadline_ms(opening)
        known = self._next_deadline_ms.get(incarnation)
        if known is None or deadline < known:
            self._next_deadline_ms[incarnation] = deadline

    def close(self, event_id: bytes) -> Opening | None:
        """Forget an admission; None when it was not open."""
        incarnation = self._incarnation_by_event.pop(event_id, None)
        if incarnation is None:
            return None
        openings = self._by_incarnation[incarnation]
        opening = openings.pop(event_id)
        if not openings:
            del self._by_incarnation[incarnation]
            self._next_deadline_ms.pop(incarnation, None)
        return opening

    def get(self, event_id: bytes) -> Opening | None:
        """The open admission of an event."""
        incarnation = self._incarnation_by_event.get(event_id)
        return None if incarnation is None else self._by_incarnation[incarnation][event_id]

    def incarnations(self) -> Iterable[bytes]:
        """Those with an open admission."""
        return self._by_incarnation.keys()

    def event_ids(self) -> Iterable[bytes]:
        """All open ones."""
        return self._incarnation_by_event.keys()

    def oldest_seq(self) -> int | None:
        """The lowest stream sequence an open admission needs."""
        # Admissions come in journal order, so the first of an incarnation has its lowest sequence.
        return min(
            (next(iter(o.values())).seq for o in self._by_incarnation.values()), default=None
        )

    def newest_seq(self) -> int:
        """The highest stream sequence an open admission needs, 0 without any."""
        return max((o.seq for by in self._by_incarnation.values() for o in by.values()), default=0)

    def closable(
        self, positions: dict[str, Position], lost: frozenset[bytes], rows_max: int
    ) -> list[bytes]:
        """Event ids that may be closed as abandoned now, at most `rows_max`, in a stable order."""
        closable: list[bytes] = []
        for incarnation in sorted(self._by_incarnation):
            for event_id in self._closable_of(incarnation, positions, lost):
                if len(closable) == rows_max:
                    return closable
                closable.append(event_id)
        return closable

    def _closable_of(
        self, incarnation: bytes, positions: dict[str, Position], lost: frozenset[bytes]
    ) -> Iterator[bytes]:
        position = positions.get(incarnation.hex())
        openings = self._by_incarnation[incarnation]
        if incarnation in lost or (position is not None and position.ended_at_ms is not None):
            yield from openings
            return
        if position is None or position.last_time_ms <= self._next_deadline_ms[incarnation]:
            return
        next_deadline_ms = None
        for event_id, opening in openings.items():
            deadline_ms = self._deadline_ms(opening)
            if deadline_ms < position.last_time_ms:
                yield event_id
            elif next_deadline_ms is None or deadline_ms < next_deadline_ms:
                next_deadline_ms = deadline_ms
        if next_deadline_ms is not None:
            self._next_deadline_ms[incarnation] = next_deadline_ms

    def _deadline_ms(self, opening: Opening) -> int:
        return opening.admitted.admitted_at_ms + opening.admitted.timeout_ms + self._grace_ms
