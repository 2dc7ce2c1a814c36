"""Following the books: what is booked is deleted, what stands still is sent again."""

import asyncio
import contextlib
import logging
import time
from typing import Final

from contracts.records import BadRecord
from gateway.ports import Bus, BusUnavailable
from gateway.recording.counts import Counts, Usage
from gateway.recording.incarnation import Incarnation, Stop
from gateway.recording.parcels import chain_at
from gateway.recording.pump import Pump
from gateway.recording.settings import JournalSettings

log = logging.getLogger(__name__)

_POLL_DRAINING_S: Final = 0.02
_RESEND_GROWTH_MAX: Final = 32
_NAMED_S: Final = 86_400.0
"""A checkpoint names a living incarnation for longer than this after its last record."""

_PATIENCE: Final = 4
"""In units of RESEND_AFTER: how long damage waits for booking to pass it by itself."""


class Booking:
    """Reads the checkpoint while it can say something that matters, and acts on it.

    The checkpoint is polled, not watched: a poll a second for an open lane costs less than every
    checkpoint of a busy partition pushed to every lane in it, and needs no second way for the times
    when the watch is broken.
    """

    def __init__(
        self,
        source: Incarnation,
        bus: Bus,
        settings: JournalSettings,
        counts: Counts,
        usage: Usage,
        pump: Pump,
    ) -> None:
        self.source = source
        self.is_draining = False
        """Poll quickly and keep nothing back: somebody waits for the end."""
        self._bus = bus
        self._settings = settings
        self._counts = counts
        self._usage = usage
        self._pump = pump
        self._agreed_at = 0
        self._is_doubted = False
        self._probed_at: int | None = None
        self._stuck: tuple[int, bool] | None = None
        self._stuck_since = 0.0
        self._resend_growth = 1

    def doubt(self) -> None:
        """Metering asked for what we hold for booked: the checkpoint says which of us is right."""
        self._is_doubted = True
        self._pump.has_unbooked.set()

    async def follow(self) -> None:
        """Until every file of a sealed incarnation is gone or set aside, or the pump stopped."""
        source = self.source
        while not self._pump.is_stopped:
            if source.is_sealed and max(source.end, source.booked) == 0:
                await self.dispose()
                return
            if not self._is_open():
                # A lane that nothing comes to looks now and then: stores may have been put back.
                self._pump.has_unbooked.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._settings.resend_after):
                        await self._pump.has_unbooked.wait()
            poll_s = self._settings.booked_poll
            await asyncio.sleep(min(_POLL_DRAINING_S, poll_s) if self.is_draining else poll_s)
            if not await self.read_position():
                self._stuck = None
                continue
            if not await self.agrees():
                await self.dispose()
                return
            await self._delete_booked()
            if source.ended_at is not None and await self._finish():
                return
            await self._heal()

    def _is_open(self) -> bool:
        """Whether the checkpoint can tell something that matters."""
        source = self.source
        return source.is_sealed or self._pump.next > source.booked or len(source.segments) > 1

    async def read_position(self) -> bool:
        """Whether the checkpoint was read; what it says is taken over."""
        source = self.source
        try:
            position = await self._bus.position(source.partition, source.id)
        except BusUnavailable:
            return False
        is_doubted, self._is_doubted = self._is_doubted, False
        if position is None:
            if source.booked and (is_doubted or self._is_young()) and source.ended_at is None:
                # Stream and ledger were put back to before our first record.
                log.warning("incarnation %s: the books know nothing of it", source.id.hex())
                source.booked, source.booked_chain = 0, None
            return True
        source.booked_chain = bytes.fromhex(position.chain) if position.chain else None
        if position.offset != source.booked:
            if position.offset > source.booked:
                self._counts.bytes_booked += position.offset - source.booked
            else:
                log.warning("incarnation %s: booked went back", source.id.hex())
            source.booked = position.offset
            self._resend_growth = 1
        if position.ended_at_ms is not None and source.ended_at is None:
            source.ended_at = time.monotonic()
            if not source.is_sealed:
                source.renew("metering holds it for ended")
        return True

    def _is_young(self) -> bool:
        """Whether every checkpoint would name it: an older one, or one that ended, may have been
        dropped, and is in the ledger.
        """
        source = self.source
        return not source.is_sealed and time.time() - source.last_time_ms / 1000 < _NAMED_S

    async def agrees(self) -> bool:
        """Whether what is booked is what we hold, by the running hash at the booked offset.

        A machine's image that was resumed twice makes two of one incarnation; the books of the
        other must not count as ours. A file of the dead that ends before the booked offset cannot
        say (a power cut may have taken its tail); a lane that has not got there yet can.
        """
        source = self.source
        booked, theirs = source.booked, source.booked_chain
        if booked == self._agreed_at or theirs is None:
            return True
        is_beyond = booked > source.end
        if is_beyond and source.chain is None:
            return True
        ours: bytes | BadRecord | None = self._pump.marks.get(booked)
        if ours is None and not is_beyond:
            segment = source.segment_at(booked) or next(
                (one for one in source.segments if one.end == booked), None
            )
            if segment is None:
                return True
            with segment.pinned():
                ours = await asyncio.to_thread(chain_at, segment, booked)
        if ours == theirs or isinstance(ours, BadRecord):
            self._agreed_at = booked
            while self._pump.marks and (first := next(iter(self._pump.marks))) < booked:
                del self._pump.marks[first]
            return True
        self._counts.forks += 1
        self._pump.halt(Stop(self._agreed_at, "forked", f"what is booked at {booked} is not ours"))
        return False

    async def _delete_booked(self) -> None:
        source = self.source
        now = time.monotonic()
        # It is kept for a broker that loses what it had; requests are not refused for that.
        is_hurried = self.is_draining or self._usage.is_short
        keep_s = 0.0 if is_hurried else self._settings.journal_keep
        while len(source.segments) > 1:
            segment = source.segments[0]
            if segment.end > source.booked:
                return
            if segment.booked_at is None:
                segment.booked_at = now
            if segment.pins or now - segment.booked_at < keep_s:
                return
            # It stays in the list until it is gone: a cancelled deletion must not lose its lock.
            await asyncio.to_thread(segment.delete)
            source.segments.popleft()

    async def _heal(self) -> None:
        source = self.source
        stop = source.stop
        now = time.monotonic()
        if stop is not None and source.booked > stop.offset:
            # The stream held what the file lost: go on behind it.
            source.stop = None
            self._pump.rewind(source.booked)
        elif self._pump.next < min(source.booked, self._pump.limit()):
            self._pump.rewind(source.booked)
        elif stop is not None and stop.kind == "damaged" and not self._pump.may_end_at_damage:
            waited_s = now - self._pump.stopped_at
            if (
                self._pump.next >= stop.offset
                and waited_s >= _PATIENCE * self._settings.resend_after
            ):
                self._pump.may_end_at_damage = True
                self._pump.nudge()
        stuck = (source.booked, self._pump.is_end_sent)
        is_behind = source.booked < self._pump.next
        is_waiting = is_behind or (self._pump.is_end_sent and source.ended_at is None)
        if stuck != self._stuck or not is_waiting:
            self._stuck, self._stuck_since = stuck, now
        elif now - self._stuck_since >= self._settings.resend_after * self._resend_growth:
            self._stuck_since = now
            self._resend_growth = min(self._resend_growth * 2, _RESEND_GROWTH_MAX)
            self._counts.resends_own += 1
            self._send_again(is_behind=is_behind)

    def _send_again(self, *, is_behind: bool) -> None:
        booked = self.source.booked
        if not is_behind:
            self._pump.is_end_sent = False
        elif self._probed_at is not None and self._probed_at < booked:
            self._probed_at = None
            self._pump.rewind(booked)
        else:
            self._probed_at = booked
            self._pump.probe()
        self._pump.nudge()

    async def _finish(self) -> bool:
        """The END (or a declared loss) is booked: remove what is booked, keep what is not."""
        source = self.source
        assert source.ended_at is not None
        if source.booked < self._pump.limit():
            # Declared lost while records were still under way: they may yet be taken.
            waited_s = time.monotonic() - max(source.ended_at, self._stuck_since)
            if waited_s < _PATIENCE * self._settings.resend_after:
                return False
        await self.dispose()
        return True

    async def dispose(self) -> None:
        """Delete what is booked, set the rest aside."""
        source = self.source
        stop = source.stop
        good_end = source.end if stop is None or stop.kind != "torn" else stop.offset
        booked = self._agreed_at if stop is not None and stop.kind == "forked" else source.booked
        while source.segments:
            segment = source.segments[0]
            while segment.pins:  # noqa: ASYNC110 - a thread's read takes milliseconds
                await asyncio.sleep(0.01)
            if min(segment.end, good_end) <= booked or segment.end == segment.base:
                await asyncio.to_thread(segment.delete)
            else:
                kept = await asyncio.to_thread(segment.quarantine)
                self._counts.segments_quarantined += 1
                log.error("kept for the operator, not booked: %s", kept)
            source.segments.popleft()
        source.unshipped_since = None
