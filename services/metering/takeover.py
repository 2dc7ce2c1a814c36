"""How an owner begins: the checkpoint is read, compared, and what it leaves open is read again."""

import msgspec

from contracts.checkpoint import Checkpoint, Position
from metering.agreement import Agreement, aware_of, unknown
from metering.gaps import Gaps
from metering.holding import NO_BATCH, Holding
from metering.ledger_clock import LedgerClock
from metering.losses import Losses
from metering.partition_ports import PartitionPorts
from metering.rebuild import Rebuild
from metering.settling import reread


class Takeover:
    """Of one partition, at its first step and after every error."""

    def __init__(
        self,
        ports: PartitionPorts,
        holding: Holding,
        *,
        agreement: Agreement,
        ledger_clock: LedgerClock,
        losses: Losses,
        gaps: Gaps,
    ) -> None:
        self._ports = ports
        self._holding = holding
        self._agreement = agreement
        self._ledger_clock = ledger_clock
        self._losses = losses
        self._gaps = gaps
        self._rebuild = Rebuild(ports, ledger_clock, holding.progress)

    async def begin(self) -> None:
        """Take the partition; a pending batch is left to recover. Raises Refused, Unavailable."""
        holding = self._holding
        holding.progress.openings += 1
        # In this order: what a checkpoint names must be in a stream and a ledger looked at later.
        checkpoint, revision = await self._ports.checkpoints.read()
        state = await self._ports.stream.state()
        await self._ledger_clock.look()
        if checkpoint is None:
            checkpoint, revision = await self._rebuild.checkpoint(state, revision)
        else:
            self._agreement.with_stream(checkpoint, state)
            checkpoint, revision = await self._compared(checkpoint, revision)
        await self._losses.read()
        # One that was made anew or put back says nothing about what was waited for before.
        self._gaps.begin(is_older=checkpoint.committed_seq < holding.newest_seq)
        holding.newest_seq = checkpoint.committed_seq
        await self._reread(checkpoint)
        holding.take(checkpoint, revision)

    async def _compared(self, checkpoint: Checkpoint, revision: int) -> tuple[Checkpoint, int]:
        """The checkpoint with what the ledger holds beyond it, to be looked up before booking."""
        await self._ledger_clock.look()
        checkpoint = await self._agreement.with_ledger(checkpoint)
        marks = await self._agreement.later_marks(checkpoint)
        if not unknown(marks, checkpoint):
            return aware_of(marks, checkpoint), revision
        # The checkpoint is older than the ledger: what it does not know of is looked up.
        self._holding.progress.rebuilds += 1
        await self._ledger_clock.let_pass(self._ledger_clock.deadline_ms())
        marks = await self._agreement.later_marks(checkpoint)
        positions = dict(checkpoint.incarnations)
        for name, mark in unknown(marks, checkpoint).items():
            known = positions.get(name) or Position(0, name, mark.insert_by_ms, mark.segment_no)
            positions[name] = msgspec.structs.replace(known, verify_to=mark.offset)
        checkpoint = msgspec.structs.replace(aware_of(marks, checkpoint), incarnations=positions)
        return checkpoint, await self._ports.checkpoints.write(checkpoint, revision)

    async def _reread(self, checkpoint: Checkpoint) -> None:
        """The open admissions and gaps, from the stream; what the ledger closed is subtracted."""
        holding = self._holding
        holding.forget()
        seq = checkpoint.oldest_open_seq
        last_seq = max(checkpoint.committed_seq, checkpoint.reread_to_seq)
        while seq is not None and seq <= last_seq:
            messages = await self._ports.stream.read(seq, self._ports.limits.bytes_max)
            messages = [each for each in messages if each.seq <= last_seq]
            if not messages:
                break
            reread(messages, checkpoint.incarnations, holding.openings, holding.gaps)
            seq = messages[-1].seq + 1
        candidates = list(holding.openings.event_ids())
        if candidates:
            pending = checkpoint.pending
            excluding = NO_BATCH if pending is None else pending.batch_id
            for event_id in await self._ports.ledger.known(candidates, excluding):
                holding.openings.close(event_id)
