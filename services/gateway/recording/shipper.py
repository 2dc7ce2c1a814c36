"""Journal to stream: what one incarnation holds goes out in parcels until metering has booked it.

1. One parcel is in flight. What was not acknowledged is read from the file and checked again.
2. Acknowledged is not booked: a segment is deleted when the checkpoint says that it is booked.
3. When booking stands still, the parcel at the booked offset goes out once more, beside what is
   new. Only if that moved the booking on and it stands again was there a gap, and the rest follows.
   A metering that is away costs one parcel per (growing) pause, not the journal over and over.
4. A shipper of the dead ships and writes the END. It decides nothing else; two are harmless.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator
from typing import Final

from contracts.checkpoint import Position
from contracts.records import BadRecord, ParcelHeaders
from contracts.subjects import exchanges_subject
from gateway.ports import Bus, BusFull, BusRefused, BusUnavailable
from gateway.recording.counts import Counts
from gateway.recording.incarnation import Incarnation, Stop
from gateway.recording.parcels import Parcel, chain_at, cut_newest, cut_stored, why_stop
from gateway.recording.segments import Segment
from gateway.recording.settings import JournalSettings
from gateway.recording.syncing import keep_synced

log = logging.getLogger(__name__)

_BACKOFF_FIRST_S: Final = 0.05
_POLL_DRAINING_S: Final = 0.02
_RESEND_GROWTH_MAX: Final = 32
_MARKS_MAX: Final = 10_000
_PATIENCE: Final = 4
"""In units of RESEND_AFTER: how long damage waits for booking to pass it by itself."""


class Shipper:
    """Ships one incarnation. `run` ends when its last file is gone (the incarnation was sealed)."""

    def __init__(
        self, source: Incarnation, bus: Bus, settings: JournalSettings, counts: Counts
    ) -> None:
        self.source = source
        self.is_draining = False
        """Poll quickly and keep nothing back: somebody waits for the end."""
        self._bus = bus
        self._settings = settings
        self._counts = counts
        self._subject = exchanges_subject(source.partition)
        self._next = 0
        self._chain = source.id
        self._count: int | None = 0 if source.chain is not None else None
        self._time_ms = 0
        self._marks: dict[int, bytes] = {0: source.id}
        self._agreed_at = 0
        self._position: Position | None = None
        self._rewind_to: int | None = None
        self._probe_at: int | None = None
        self._is_probe_due = False
        self._shipped_max = 0
        self._end_shipped = False
        self._may_end_at_damage = False
        self._has_news = asyncio.Event()
        self._has_unbooked = asyncio.Event()
        self._is_lagging = asyncio.Event()
        self._stuck: tuple[int, bool] | None = None
        self._stuck_since = 0.0
        self._stopped_at = 0.0
        self._backoff = _BACKOFF_FIRST_S
        self._ended_at: float | None = None
        self._resend_growth = 1
        self._asked: tuple[int, float] = (-1, 0.0)

    async def run(self) -> None:
        """Ship, follow what is booked, delete. Cancelling leaves everything to the next one."""
        stop_asking = self._bus.on_resend(self.source.id, self.ask)
        try:
            if not await self._find_start():
                return
            async with asyncio.TaskGroup() as group:
                others = (
                    group.create_task(self._ship()),
                    group.create_task(keep_synced(self.source, self._settings, self._is_lagging)),
                )
                await self._follow()
                for task in others:
                    task.cancel()
        finally:
            self.source.wake = None
            stop_asking()

    def ask(self, offset: int) -> None:
        """Metering asks for everything from `offset`: never forward, never below what is booked."""
        now = time.monotonic()
        target = max(offset, self.source.booked)
        was, at = self._asked
        # Every parcel behind a gap makes the same request; one answer is enough.
        is_answered = target == was and now - at < self._settings.resend_after
        if is_answered or target >= self._next:
            return
        self._asked = (target, now)
        self._counts.resends_asked += 1
        self._rewind(target)

    def drain(self) -> None:
        """Hurry: the process is about to stop."""
        self.is_draining = True
        self._has_news.set()
        self._has_unbooked.set()

    # --- shipping

    async def _find_start(self) -> bool:
        """False when there is nothing of ours to ship."""
        source = self.source
        if source.chain is not None and source.booked == 0:
            return True
        while not await self._read_position():  # noqa: ASYNC110 - it asks the broker
            await asyncio.sleep(self._settings.booked_poll)
        if not await self._agrees():
            await self._dispose()
            return False
        if source.end > source.booked:
            source.unshipped_since = time.monotonic()
            self._is_lagging.set()
        await self._go_to(source.booked)
        return True

    async def _ship(self) -> None:
        interval = self._settings.parcel_interval
        while True:
            if self.source.is_sealed or len(self.source.segments) > 1:
                self._has_unbooked.set()
            if self._rewind_to is not None:
                target, self._rewind_to = self._rewind_to, None
                self._end_shipped = False
                await self._go_to(target)
            if self._is_probe_due:
                self._is_probe_due = False
                await self._probe()
            parcel, count_after = await self._next_parcel()
            if parcel is None:
                await self._wait_for_news()
                continue
            cut_at = time.monotonic()
            self._note_lag(cut_at)
            reaches_end = parcel.end >= self.source.end
            if not await self._send(parcel):
                continue
            self._advance(parcel, count_after, cut_at if reaches_end else None)
            left = self.source.end - self._next
            if left < self._settings.parcel_bytes_max and not self.source.is_sealed:
                await asyncio.sleep(cut_at + interval - time.monotonic())

    async def _wait_for_news(self) -> None:
        source = self.source
        self._has_news.clear()
        source.wake = self._has_news.set
        await self._has_news.wait()
        source.wake = None
        self._note_lag(time.monotonic())
        if not source.is_sealed:
            await asyncio.sleep(self._settings.parcel_interval)

    def _note_lag(self, now: float) -> None:
        source = self.source
        if source.end > self._next and source.unshipped_since is None:
            source.unshipped_since = now
            self._is_lagging.set()

    async def _next_parcel(self) -> tuple[Parcel | None, int | None]:
        """What to send now and the number of records up to its end, when known."""
        source = self.source
        if self._next >= self._limit():
            return (self._end_parcel(), None) if self._is_end_due() else (None, None)
        segment = source.segment_at(self._next)
        if segment is None:
            self._stop(Stop(self._next, "missing", "no segment holds these bytes"))
            return None, None
        count, end = source.count, source.end
        bytes_max = self._settings.parcel_bytes_max
        is_known = self._count is not None and source.chain is not None
        if is_known and segment is source.segments[-1] and end - self._next <= bytes_max:
            assert self._count is not None
            return cut_newest(source, segment, self._next, self._chain, self._count), count
        if self._next == segment.base and self._chain != segment.header.base_chain:
            self._stop(Stop(self._next, "damaged", "segments that do not belong together"))
            return None, None
        return await self._cut_checked(segment, end, count)

    async def _cut_checked(
        self, segment: Segment, end: int, count: int | None
    ) -> tuple[Parcel | None, int | None]:
        offset, chain = self._next, self.source.chain
        segment_end = min(segment.end, self._limit())
        with _pinned(segment):
            parcel, bad = await asyncio.to_thread(
                cut_stored,
                segment,
                offset,
                segment_end,
                self._chain,
                self._settings.parcel_bytes_max,
                self._time_ms,
            )
            if bad is not None:
                await self._stop_at_bad(segment, offset + bad.position, bad)
        if parcel is None:
            return None, None
        if parcel.end != end or chain is None:
            return parcel, None
        if parcel.chain_after != chain:
            self._stop(Stop(offset, "damaged", "not what was appended"))
            return None, None
        return parcel, count

    async def _send(self, parcel: Parcel) -> bool:
        """True when acknowledged; False after a pause: cut again, from the file."""
        pause = _BACKOFF_FIRST_S
        headers = parcel.headers.to_headers()
        try:
            await self._bus.publish(self._subject, parcel.content, headers)
            self._backoff = _BACKOFF_FIRST_S
        except BusRefused as error:
            self._counts.publish_refused += 1
            log.error("parcel refused, the lane stands: %s", error)
            pause = self._settings.parcel_backoff_max
        except BusFull:
            self._counts.publish_full += 1
        except BusUnavailable:
            self._counts.publish_unavailable += 1
        else:
            return True
        pause = max(pause, self._backoff)
        self._backoff = min(pause * 2, self._settings.parcel_backoff_max)
        self._count = None
        await asyncio.sleep(pause)
        return False

    def _advance(self, parcel: Parcel, count_after: int | None, cut_at: float | None) -> None:
        source = self.source
        self._has_unbooked.set()
        if parcel.headers.is_end:
            self._end_shipped = True
            return
        self._counts.parcels_shipped += 1
        self._counts.bytes_shipped += max(0, parcel.end - max(self._next, self._shipped_max))
        self._next = parcel.end
        self._chain = parcel.chain_after
        self._count = count_after
        self._time_ms = max(self._time_ms, parcel.headers.last_time_ms)
        self._marks[self._next] = self._chain
        if len(self._marks) > _MARKS_MAX:
            del self._marks[next(iter(self._marks))]
        self._shipped_max = max(self._shipped_max, parcel.end)
        if cut_at is not None:
            source.unshipped_since = cut_at if source.end > self._next else None

    async def _probe(self) -> None:
        """Send what lies at the booked offset once more; the pointer stays where it is."""
        source = self.source
        offset = source.booked
        segment = source.segment_at(offset)
        if segment is None or offset >= self._next:
            return
        with _pinned(segment):
            chain = await asyncio.to_thread(chain_at, segment, offset)
            if not isinstance(chain, bytes):
                offset, chain = segment.base, segment.header.base_chain
            end = min(segment.end, self._limit())
            bytes_max = self._settings.parcel_bytes_max
            parcel, _ = await asyncio.to_thread(
                cut_stored, segment, offset, end, chain, bytes_max, 0
            )
        if parcel is not None:
            # A probe that fails is as good as one that nobody answers: the next comes later.
            with contextlib.suppress(BusUnavailable, BusRefused):
                headers = parcel.headers.to_headers()
                await self._bus.publish(self._subject, parcel.content, headers)

    def _limit(self) -> int:
        stop = self.source.stop
        return self.source.end if stop is None else stop.offset

    def _is_end_due(self) -> bool:
        source = self.source
        if not source.is_sealed or self._end_shipped or self._ended_at is not None:
            return False
        if max(source.end, source.booked) == 0:
            return False
        stop = source.stop
        return stop is None or stop.kind == "torn" or self._may_end_at_damage

    def _end_parcel(self) -> Parcel:
        source = self.source
        offset, chain = self._next, self._chain
        # After a power cut the file may hold less than what is booked: the END lies there.
        if source.booked > offset and self._position is not None:
            offset = source.booked
            if self._position.chain is not None:
                chain = bytes.fromhex(self._position.chain)
        segment_no = source.segments[-1].header.segment_no if source.segments else 0
        time_ms = max(self._time_ms, source.last_time_ms)
        headers = ParcelHeaders(source.id, segment_no, offset, 0, chain, time_ms, is_end=True)
        return Parcel(headers, offset, chain, b"")

    # --- moving the pointer

    def _rewind(self, target: int) -> None:
        self._rewind_to = target if self._rewind_to is None else min(self._rewind_to, target)
        self._has_news.set()

    async def _go_to(self, target: int) -> None:
        """Put the pointer at a logical offset, with the hash that our own file has there."""
        source = self.source
        self._count = None
        end = self._limit()
        if target >= end and self._chain_at_end() is not None:
            target = end
        segment = source.segment_at(target)
        if segment is None:
            before = next((one for one in source.segments if one.end == target), None)
            if before is None:
                self._next = min(target, end)
                self._chain = self._booked_chain() or self._chain
                return
            segment = before
        with _pinned(segment):
            chain = await asyncio.to_thread(chain_at, segment, target)
        if isinstance(chain, BadRecord):
            # Damage in what is booked already: the checkpoint's hash stands in.
            chain = self._booked_chain() if target == source.booked else None
        if chain is None:
            # No record of ours ends there. Metering sees the fork at the hash of what we have.
            self._counts.faults += 1
            log.error("incarnation %s: no record ends at %d", source.id.hex(), target)
            target, chain = segment.base, segment.header.base_chain
        self._next, self._chain = target, chain

    def _chain_at_end(self) -> bytes | None:
        return self.source.chain if self.source.stop is None else None

    def _booked_chain(self) -> bytes | None:
        position = self._position
        return bytes.fromhex(position.chain) if position is not None and position.chain else None

    async def _stop_at_bad(self, segment: Segment, offset: int, bad: BadRecord) -> None:
        is_last = segment is self.source.segments[-1]
        stop = await asyncio.to_thread(why_stop, segment, offset, bad, is_last=is_last)
        self._stop(stop)

    def _stop(self, stop: Stop) -> None:
        source = self.source
        source.stop = stop
        self._may_end_at_damage = False
        self._stopped_at = time.monotonic()
        lost_bytes = source.end - stop.offset
        if stop.kind == "torn":
            self._counts.bytes_torn += lost_bytes
            log.warning("incarnation %s ends torn at %d", source.id.hex(), stop.offset)
        elif stop.kind in ("damaged", "forked"):
            self._counts.bytes_damaged += lost_bytes
            log.error("incarnation %s %s at %d: %s", source.id.hex(), stop.kind, *_told(stop))
        else:
            behind = [one.base for one in source.segments if one.base > stop.offset]
            self._counts.bytes_missing += min(behind, default=source.end) - stop.offset
            log.error("incarnation %s has a gap at %d: %s", source.id.hex(), *_told(stop))
        if not source.is_sealed:
            source.renew(f"{stop.kind} at {stop.offset}: {stop.reason}")

    # --- following what is booked

    async def _follow(self) -> None:
        source = self.source
        while True:
            if source.is_sealed and max(source.end, source.booked) == 0:
                await self._dispose()
                return
            if not self._is_open():
                self._has_unbooked.clear()
                await self._has_unbooked.wait()
            poll_s = self._settings.booked_poll
            await asyncio.sleep(min(_POLL_DRAINING_S, poll_s) if self.is_draining else poll_s)
            if not await self._read_position():
                self._stuck = None
                continue
            if not await self._agrees():
                await self._dispose()
                return
            await self._delete_booked()
            if self._ended_at is not None and await self._finish():
                return
            await self._heal()

    def _is_open(self) -> bool:
        """Whether the checkpoint can tell something that matters."""
        source = self.source
        return source.is_sealed or self._next > source.booked or len(source.segments) > 1

    async def _read_position(self) -> bool:
        """Whether the checkpoint was read; what it says is taken over."""
        source = self.source
        try:
            position = await self._bus.position(source.partition, source.id)
        except BusUnavailable:
            return False
        if position is None:
            return True
        self._position = position
        if position.offset != source.booked:
            if position.offset > source.booked:
                self._counts.bytes_booked += position.offset - source.booked
            else:
                log.warning("incarnation %s: booked went back", source.id.hex())
            source.booked = position.offset
            self._resend_growth = 1
        if position.ended_at_ms is not None and self._ended_at is None:
            self._ended_at = time.monotonic()
            if not source.is_sealed:
                source.renew("metering holds it for ended")
        return True

    async def _agrees(self) -> bool:
        """Whether what is booked is what we hold, by the running hash at the booked offset.

        A machine's image that was resumed twice makes two of one incarnation; the books of the
        other must not count as ours. A file that ends before the booked offset cannot say.
        """
        source = self.source
        booked, theirs = source.booked, self._booked_chain()
        if booked == self._agreed_at or theirs is None or booked > source.end:
            return True
        ours: bytes | BadRecord | None = self._marks.get(booked)
        if ours is None:
            segment = source.segment_at(booked) or next(
                (one for one in source.segments if one.end == booked), None
            )
            if segment is None:
                return True
            with _pinned(segment):
                ours = await asyncio.to_thread(chain_at, segment, booked)
        if ours == theirs or isinstance(ours, BadRecord):
            self._agreed_at = booked
            while self._marks and (first := next(iter(self._marks))) < booked:
                del self._marks[first]
            return True
        self._counts.forks += 1
        self._stop(Stop(self._agreed_at, "forked", f"what is booked at {booked} is not ours"))
        return False

    async def _delete_booked(self) -> None:
        source = self.source
        now = time.monotonic()
        keep_s = 0.0 if self.is_draining else self._settings.journal_keep
        while len(source.segments) > 1:
            segment = source.segments[0]
            if segment.end > source.booked:
                return
            if segment.booked_at is None:
                segment.booked_at = now
            if segment.pins or now - segment.booked_at < keep_s:
                return
            source.segments.popleft()
            await asyncio.to_thread(segment.delete)

    async def _heal(self) -> None:
        source = self.source
        stop = source.stop
        now = time.monotonic()
        if stop is not None and source.booked > stop.offset:
            # The stream held what the file lost: go on behind it.
            source.stop = None
            self._rewind(source.booked)
        elif source.booked > self._next:
            self._rewind(source.booked)
        elif stop is not None and stop.kind == "damaged" and not self._may_end_at_damage:
            waited_s = now - self._stopped_at
            if self._next >= stop.offset and waited_s >= _PATIENCE * self._settings.resend_after:
                self._may_end_at_damage = True
                self._has_news.set()
        stuck = (source.booked, self._end_shipped)
        is_behind = source.booked < self._next
        is_waiting = is_behind or (self._end_shipped and self._ended_at is None)
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
            self._end_shipped = False
        elif self._probe_at is not None and self._probe_at < booked:
            self._probe_at = None
            self._rewind(booked)
        else:
            self._probe_at = booked
            self._is_probe_due = True
        self._has_news.set()

    async def _finish(self) -> bool:
        """The END (or a declared loss) is booked: remove what is booked, keep what is not."""
        assert self._ended_at is not None
        source = self.source
        if source.booked < self._limit():
            # Declared lost while records were still under way: they may yet be taken.
            waited_s = time.monotonic() - max(self._ended_at, self._stuck_since)
            if waited_s < _PATIENCE * self._settings.resend_after:
                return False
        await self._dispose()
        return True

    async def _dispose(self) -> None:
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
                self._counts.segments_quarantined += 1
                kept = await asyncio.to_thread(segment.quarantine)
                log.error("kept for the operator, not booked: %s", kept)
            source.segments.popleft()
        source.unshipped_since = None


def _told(stop: Stop) -> tuple[int, str]:
    return stop.offset, stop.reason


@contextlib.contextmanager
def _pinned(segment: Segment) -> Iterator[None]:
    segment.pins += 1
    try:
        yield
    finally:
        segment.pins -= 1
