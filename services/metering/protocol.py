"""The batch protocol of one partition: a state machine over ports, the same in production and tests.

    read parcels -> rows -> CAS pending -> insert once -> CAS committed        booking
    anything else: let the deadline pass, CAS attempt + 1, count, insert what
    is missing, count, CAS committed                                           recovery, filling

The checkpoint is a cache of the ledger; whoever holds its newest revision may insert, the ledger's
own clock refuses all earlier holders, and what is missing is read from the ledger itself.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext

from metering.agreement import Agreement
from metering.batch_ids import next_batch_id
from metering.batch_reader import BatchReader
from metering.booking import Booking
from metering.gaps import Gaps
from metering.holding import NO_BATCH, Holding
from metering.ledger_clock import LedgerClock
from metering.limits import Limits, Progress
from metering.losses import Losses
from metering.next_checkpoint import oldest_needed
from metering.partition_ports import PartitionPorts
from metering.ports import Billers, Checkpoints, Clock, Ledger, Stream
from metering.reading import Reading
from metering.recovery import Recovery
from metering.takeover import Takeover


class PartitionMeter:
    """Books one partition. One task at a time may call `step`; any error makes the next one reopen."""

    def __init__(
        self,
        partition: int,
        *,
        stream: Stream,
        checkpoints: Checkpoints,
        ledger: Ledger,
        clock: Clock,
        billers: Billers,
        limits: Limits,
        build: str,
        slots: AbstractAsyncContextManager[object] | None = None,
        new_batch_id: Callable[[int, int], bytes] = next_batch_id,
    ) -> None:
        """`slots` bounds how many partitions of a process work on a batch at the same time."""
        self.partition = partition
        self.progress = Progress()
        self._ports = ports = PartitionPorts(
            partition,
            stream=stream,
            checkpoints=checkpoints,
            ledger=ledger,
            clock=clock,
            billers=billers,
            limits=limits,
        )
        self._slots = slots or nullcontext()
        self._holding = holding = Holding(ports, self.progress)
        self._agreement = agreement = Agreement(ledger)
        self._ledger_clock = ledger_clock = LedgerClock(ports)
        self._losses = losses = Losses(ports, holding)
        self._gaps = gaps = Gaps(ports, holding, losses)
        self._reader = BatchReader(ports, holding, losses, gaps)
        self._takeover = Takeover(
            ports,
            holding,
            agreement=agreement,
            ledger_clock=ledger_clock,
            losses=losses,
            gaps=gaps,
        )
        self._recovery = Recovery(ports, holding, agreement=agreement, ledger_clock=ledger_clock)
        self._booking = Booking(
            ports, holding, ledger_clock, build=build, new_batch_id=new_batch_id
        )

    async def step(self) -> bool:
        """Book at most one batch; False when there was nothing to do.

        Raises Unavailable (try again later), Superseded (someone else owns the partition; trying
        again is safe), Refused (an operator has to act). After any of them, or a cancellation,
        the next step starts from the checkpoint again.
        """
        try:
            if not self._holding.is_held:
                await self.open()
            return await self._step()
        except BaseException:
            self._holding.let_go()
            raise

    async def open(self) -> None:
        """Take the partition over, and finish what its last owner began."""
        await self._takeover.begin()
        pending = self._holding.checkpoint.pending
        if pending is not None:
            await self._recovery.finish(pending)

    async def _step(self) -> bool:
        await self._check_stores()
        await self._losses.read_now_and_then()
        reading = await self._reader.read()
        # Strictly: a batch under way is not booked yet.
        self.progress.is_caught_up = reading.last_seq == 0
        self._losses.add_silent(reading)
        is_mended = await self._gaps.mend(reading)
        async with self._slots:
            return await self._work(reading) or is_mended

    async def _check_stores(self) -> None:
        if not self._ledger_clock.is_stale():
            return
        checkpoint = self._holding.checkpoint
        # An owner with nothing to write would not notice that it was superseded.
        await self._holding.stands()
        # Nor would a reader whose stream was replaced: it waits for a sequence that may not come.
        self._agreement.with_stream(checkpoint, await self._ports.stream.state())
        await self._ledger_clock.look()
        self._holding.learn(await self._agreement.with_ledger(checkpoint))

    async def _work(self, reading: Reading) -> bool:
        holding = self._holding
        settled = await holding.settle(reading, NO_BATCH)
        has_ended = self._losses.end(reading)
        due = holding.openings.closable(
            reading.positions, self._losses.incarnations, self._ports.limits.closings_max
        )
        needed = oldest_needed(reading, holding.openings)
        is_over = needed != holding.checkpoint.oldest_open_seq
        if reading.last_seq == 0 and not due and not has_ended and not is_over:
            return False
        closed = await self._unbooked(due)
        closings = [holding.close(event_id) for event_id in closed]
        await self._booking.book(reading, settled, closed, closings)
        return True

    async def _unbooked(self, due: list[bytes]) -> list[bytes]:
        """Which of the due admissions to close; those that the ledger holds are forgotten.

        When a lane goes on as another incarnation, an end there may be booked before its admission
        here: then nothing is open when the end comes, and all is over when the admission does.
        """
        known = await self._ports.ledger.known(due, NO_BATCH) if due else {}
        for event_id in known:
            self._holding.openings.close(event_id)
        return [event_id for event_id in due if event_id not in known]
