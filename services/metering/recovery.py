"""Finishes a batch whose insert was not seen to succeed, whoever began it.

Let the deadline pass, CAS attempt + 1, count, insert what is missing, count, CAS committed.
"""

import msgspec

from contracts.checkpoint import Checkpoint, Pending
from contracts.ids import from_text
from metering.agreement import Agreement, unknown
from metering.filling import Filling
from metering.holding import Holding
from metering.ledger_clock import LedgerClock
from metering.next_checkpoint import after, booked
from metering.partition_ports import PartitionPorts
from metering.ports import Manifest, Unavailable
from metering.putting_aside import put_aside
from metering.reading import NOWHERE, Reading
from metering.recollecting import Recollection


class Recovery:
    """Of one partition's pending batch."""

    def __init__(
        self,
        ports: PartitionPorts,
        holding: Holding,
        *,
        agreement: Agreement,
        ledger_clock: LedgerClock,
    ) -> None:
        self._ports = ports
        self._holding = holding
        self._agreement = agreement
        self._ledger_clock = ledger_clock
        self._filling = Filling(ports.partition, ports.ledger, holding.progress)

    async def finish(self, pending: Pending) -> None:
        """Until it is committed. Raises Unavailable, Superseded: the next try goes on from there.

        Its owner may live, and be about to commit it: then nothing is left to recover.
        """
        ports, holding = self._ports, self._holding
        checkpoint = holding.checkpoint
        holding.progress.recoveries += 1
        await self._ledger_clock.let_pass(pending.insert_by_ms, holding.stands)
        if unknown(await self._agreement.later_marks(checkpoint), checkpoint):
            raise Unavailable(f"partition {ports.partition}: the ledger is ahead of the checkpoint")
        reading = await self._collect(checkpoint, pending)
        settled = await holding.settle(reading, pending.batch_id)
        closings = [
            holding.close(event_id)
            for event_id in map(bytes.fromhex, pending.closed)
            if event_id in holding.openings
        ]
        biller = await ports.billers.load(pending.price_book)
        manifest = Manifest(
            ports.partition,
            from_text(pending.batch_id),
            pending.booked_at_ms,
            pending.price_book,
            pending.build,
        )
        billed = biller.rows(settled.charges, closings, manifest)
        is_drifted = ports.ledger.seal(billed.entries).sha != pending.rows_sha
        if is_drifted:
            holding.progress.pending_drifts += 1
            # What this build cannot read, the one that began the batch perhaps could, and put
            # nothing aside.
            await put_aside(ports.stream, holding.progress, reading.letters, billed)
        pending = msgspec.structs.replace(
            pending,
            attempt=pending.attempt + 1,
            insert_by_ms=self._ledger_clock.deadline_ms(),
        )
        await holding.write(msgspec.structs.replace(checkpoint, pending=pending))
        rows = await self._filling.fill(pending, billed, is_drifted=is_drifted)
        then = after(
            holding.checkpoint, reading, holding.openings, ports.limits, ports.clock.now_ms()
        )
        await holding.commit(booked(then, pending.batch_id, rows), reading)
        holding.count(billed, len(closings))

    async def _collect(self, checkpoint: Checkpoint, pending: Pending) -> Reading:
        """The batch's records as they were first read. Raises Unavailable when some are gone."""
        found = Recollection(checkpoint, pending)
        seq = pending.first_seq
        while seq and (found.missing or seq <= pending.last_seq):
            messages = await self._ports.stream.read(seq, self._ports.limits.bytes_max)
            for message in messages:
                found.take(message)
            if not messages:
                break
            seq = messages[-1].seq + 1
        for name in sorted(found.missing):
            offset = found.booked(name)
            await self._ports.stream.ask_again(bytes.fromhex(name), offset)
            raise Unavailable(
                f"partition {self._ports.partition}: batch {pending.batch_id} needs incarnation "
                f"{name} from offset {offset}, which the stream does not hold; its shipper was "
                "asked to send it again"
            )
        reading = Reading(found.final, self._holding.gaps)
        for name, gap in found.gaps.items():
            reading.note_gap(name, gap.first_seq, gap.ahead_to)
        for name, gap in list(reading.gaps.items()):
            if gap.ahead_to <= reading.positions.get(name, NOWHERE).offset:
                del reading.gaps[name]
        reading.from_offsets = pending.from_offsets
        reading.taken = found.taken
        reading.first_seq, reading.last_seq = pending.first_seq, pending.last_seq
        return reading
