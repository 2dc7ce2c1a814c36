"""Journal to stream: what one incarnation holds goes out in parcels until metering has booked it.

1. One parcel is in flight. What was not acknowledged is read from the file and checked again.
2. Acknowledged is not booked: a segment is deleted when the checkpoint says that it is booked.
3. When booking stands still, the parcel at the booked offset goes out once more, beside what is
   new. Only if that moved the booking on and it stands again was there a gap, and the rest follows.
   A metering that is away costs one parcel per (growing) pause, not the journal over and over.
4. A shipper of the dead ships and writes the END. It decides nothing else; two are harmless.
"""

import asyncio
import time

from gateway.ports import Bus
from gateway.recording.booking import Booking
from gateway.recording.counts import Counts, Usage
from gateway.recording.incarnation import Incarnation
from gateway.recording.pump import Pump
from gateway.recording.settings import JournalSettings
from gateway.recording.syncing import keep_synced


class Shipper:
    """Ships one incarnation: a pump, what follows the books, and the fsync of what lags."""

    def __init__(
        self,
        source: Incarnation,
        bus: Bus,
        settings: JournalSettings,
        counts: Counts,
        usage: Usage,
    ) -> None:
        self.source = source
        self._bus = bus
        self._settings = settings
        self._counts = counts
        self._pump = Pump(source, bus, settings, counts)
        self._booking = Booking(source, bus, settings, counts, usage, self._pump)
        self._asked: tuple[int, float] = (-1, 0.0)

    async def run(self) -> None:
        """Until the last file of a sealed incarnation is gone. Cancelling leaves the rest to the
        next one."""
        stop_asking = self._bus.on_resend(self.source.id, self.ask)
        pump = self._pump
        try:
            if not await self._find_start():
                return
            async with asyncio.TaskGroup() as group:
                others = (
                    group.create_task(pump.run()),
                    group.create_task(keep_synced(self.source, self._settings, pump.is_lagging)),
                )
                for task in others:
                    # The group cancels us when one of them fails, and that may be dropped too.
                    task.add_done_callback(lambda _: self.stop())
                try:
                    await self._booking.follow()
                finally:
                    self.stop()
                for task in others:
                    task.cancel()
        finally:
            pump.is_stopped = True
            self.source.wake = None
            stop_asking()

    def ask(self, offset: int) -> None:
        """Metering asks for everything from `offset`: never forward, never below what is booked."""
        if offset < self.source.booked:
            self._booking.doubt()
        now = time.monotonic()
        target = max(offset, self.source.booked)
        was, at = self._asked
        # Every parcel behind a gap makes the same request; one answer is enough.
        is_answered = target == was and now - at < self._settings.resend_after
        if is_answered or target >= self._pump.next:
            return
        self._asked = (target, now)
        self._counts.resends_asked += 1
        self._pump.rewind(target)

    def drain(self) -> None:
        """Hurry: the process is about to stop."""
        self._booking.is_draining = True
        self._pump.nudge()
        self._pump.has_unbooked.set()

    def stop(self) -> None:
        """Begin nothing more; to be followed by a cancellation."""
        self._pump.is_stopped = True
        self._pump.nudge()
        self._pump.has_unbooked.set()

    async def _find_start(self) -> bool:
        """Put the pump where booking stands. False when there is nothing of ours to ship."""
        source = self.source
        if source.chain is not None and source.booked == 0:
            return True
        while not await self._booking.read_position():
            if self._pump.is_stopped:
                return False
            await asyncio.sleep(self._settings.booked_poll)
        if not await self._booking.agrees():
            await self._booking.dispose()
            return False
        if source.end > source.booked:
            source.unshipped_since = time.monotonic()
            self._pump.is_lagging.set()
        await self._pump.go_to(source.booked)
        return True
