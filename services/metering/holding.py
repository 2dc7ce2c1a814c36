"""A partition as its owner holds it: the checkpoint that stands, and what was learned on top of it."""

from typing import Final

from contracts.checkpoint import Checkpoint, Position
from metering.breaker import Breaker
from metering.limits import Progress
from metering.openings import Openings
from metering.partition_ports import PartitionPorts
from metering.ports import Billed, Closing, Superseded
from metering.reading import Gap, Reading
from metering.settling import Settled, decode_all, ids_to_look_up, settle

NO_BATCH: Final = "00000000-0000-0000-0000-000000000000"


class Holding:
    """What changes while a partition is held. `let_go` after any error: then it is taken anew."""

    def __init__(self, ports: PartitionPorts, progress: Progress) -> None:
        self._ports = ports
        self._checkpoint: Checkpoint | None = None
        self._revision = 0
        self.progress = progress
        self.breaker = Breaker(ports.limits.bad_run_max, ports.limits.quarantined_max)
        self.newest_seq = 0
        """Of the newest checkpoint that this owner ever read or wrote."""
        self.rests_until_ms = 0
        """By the monotonic clock: a batch right after another waits so long for more."""
        self.forget()

    def forget(self) -> None:
        """Nothing is open, and there are no gaps."""
        self.openings = Openings(self._ports.limits.close_grace_ms)
        self.gaps: dict[str, Gap] = {}

    @property
    def is_held(self) -> bool:
        """Whether a checkpoint is at hand."""
        return self._checkpoint is not None

    @property
    def checkpoint(self) -> Checkpoint:
        """The one that stands, as far as is known here."""
        assert self._checkpoint is not None
        return self._checkpoint

    @property
    def positions(self) -> dict[str, Position]:
        """How far each incarnation is booked."""
        return self.checkpoint.incarnations

    def take(self, checkpoint: Checkpoint, revision: int) -> None:
        """What was read at an opening is what everything rests on from now."""
        self._checkpoint, self._revision = checkpoint, revision

    def learn(self, checkpoint: Checkpoint) -> None:
        """What it says beside the one that stands is written with the next batch."""
        self._checkpoint = checkpoint

    def let_go(self) -> None:
        """Begin from the stores the next time."""
        self._checkpoint = None

    async def stands(self) -> None:
        """Raises Superseded when the checkpoint is not the one that was read or written last."""
        _, revision = await self._ports.checkpoints.read()
        if revision != self._revision:
            raise Superseded(f"partition {self._ports.partition}: another revision stands")

    async def write(self, checkpoint: Checkpoint) -> None:
        """Replace the checkpoint that stands. Raises Superseded, Unavailable."""
        self._revision = await self._ports.checkpoints.write(checkpoint, self._revision)
        self._checkpoint = checkpoint
        self.newest_seq = checkpoint.committed_seq

    async def commit(self, after: Checkpoint, reading: Reading) -> None:
        """Write the checkpoint of a batch that is booked."""
        assert after.committed_seq >= self.checkpoint.committed_seq, "committed must not fall"
        await self.write(after)
        self.gaps = reading.gaps
        progress = self.progress
        progress.committed_seq = after.committed_seq
        progress.batches += 1
        progress.forks += reading.forks
        progress.damages += len(reading.damages)
        progress.jumped_bytes += reading.jumped_bytes
        progress.open_admissions = len(self.openings)
        if reading.last_published_ms:
            progress.metered_up_to_ms = reading.last_published_ms

    def count(self, billed: Billed, abandoned: int) -> None:
        """Add a booked batch to the counters."""
        self.progress.rows += len(billed.entries)
        self.progress.unpriced += billed.unpriced
        self.progress.abandoned += abandoned

    async def settle(self, reading: Reading, excluding: str) -> Settled:
        """Decode what was taken; look up what may be booked already; open and close admissions."""
        events, letters = decode_all(reading.taken)
        if excluding == NO_BATCH:
            self.breaker.judge(self._ports.partition, reading.taken, letters)
        reading.letters += letters
        ids = ids_to_look_up(events, reading.positions, self.openings)
        known = await self._ports.ledger.known(ids, excluding) if ids else {}
        self.progress.looked_up += len(ids)
        return settle(events, known, ids, self.openings)

    def close(self, event_id: bytes) -> Closing:
        """An open admission as one that ends as abandoned."""
        opening = self.openings.close(event_id)
        assert opening is not None
        return Closing(opening.admitted, opening.incarnation, opening.segment_no, opening.offset)
