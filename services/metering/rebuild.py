"""A missing checkpoint is made from the ledger, never from zero.

Reading starts at the stream's first parcel, each incarnation's booking at its lowest one, and below
the ledger's marks every event is looked up before it is booked.
"""

from contracts.checkpoint import Checkpoint, Position
from metering.agreement import newest_ms, rows_of
from metering.ledger_clock import LedgerClock
from metering.limits import Progress
from metering.partition_ports import PartitionPorts
from metering.ports import Mark, StreamState


class Rebuild:
    """Of one partition's checkpoint."""

    def __init__(
        self, ports: PartitionPorts, ledger_clock: LedgerClock, progress: Progress
    ) -> None:
        self._ports = ports
        self._ledger_clock = ledger_clock
        self._progress = progress

    async def checkpoint(self, state: StreamState, revision: int) -> tuple[Checkpoint, int]:
        """The new one and its revision; it is written. Raises Superseded, Unavailable."""
        ledger = self._ports.ledger
        marks = await ledger.marks(0, None)
        if not await self._is_untouched(state, revision, marks):
            self._progress.rebuilds += 1
            # Whoever held the lost checkpoint may have an insert on its way.
            await self._ledger_clock.let_pass(self._ledger_clock.deadline_ms())
            marks = await ledger.marks(0, None)
        anchors = await self._anchors(state, marks)
        checkpoint = Checkpoint(
            partition=self._ports.partition,
            generation=state.generation,
            committed_seq=max(0, state.first_seq - 1),
            oldest_open_seq=None,
            incarnations={
                incarnation.hex(): Position(
                    anchors[incarnation],
                    None,
                    mark.insert_by_ms,
                    mark.segment_no,
                    verify_to=mark.offset,
                )
                for incarnation, mark in marks.items()
            },
            newest_batch_ms=newest_ms(marks),
            rows_since_proved=rows_of(marks),
        )
        return checkpoint, await self._ports.checkpoints.write(checkpoint, revision)

    async def _anchors(self, state: StreamState, marks: dict[bytes, Mark]) -> dict[bytes, int]:
        """The offset from which on each incarnation is booked anew.

        What is not booked, or still open, is never purged: it lies at or above the lowest offset
        that the stream holds. That need not come first: what fills a gap lies behind what showed
        it. A stream that nothing was purged from holds all from zero, or has taken the place of
        another: what it lacks is asked for.
        """
        if state.first_seq <= 1 or not marks:
            return dict.fromkeys(marks, 0)
        anchors = {incarnation: mark.offset for incarnation, mark in marks.items()}
        last_seq = (await self._ports.stream.state()).last_seq
        async for message in self._ports.between(state.first_seq, last_seq):
            headers = message.headers
            if headers is not None and headers.offset < anchors.get(headers.incarnation, 0):
                anchors[headers.incarnation] = headers.offset
        return anchors

    async def _is_untouched(
        self, state: StreamState, revision: int, marks: dict[bytes, Mark]
    ) -> bool:
        """Whether nobody can ever have booked from this partition.

        Every parcel in it is younger than the store of checkpoints, and that never held this key:
        then no batch of these parcels was ever begun.
        """
        if revision or marks:
            return False
        first = await self._ports.stream.read(state.first_seq, 1)
        return (
            not first or first[0].published_at_ms >= await self._ports.checkpoints.created_at_ms()
        )
