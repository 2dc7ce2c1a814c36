"""The pump: cuts parcels at its pointer, sends one at a time, and moves on when acknowledged."""

import asyncio
import contextlib
import logging
import time
from typing import Final

from contracts.records import BadRecord, ParcelHeaders
from contracts.subjects import exchanges_subject
from gateway.ports import Bus, BusFull, BusRefused, BusUnavailable
from gateway.recording.counts import Counts
from gateway.recording.incarnation import Incarnation, Stop
from gateway.recording.parcels import Parcel, chain_at, cut_newest, cut_stored, why_stop
from gateway.recording.segments import Segment
from gateway.recording.settings import JournalSettings

log = logging.getLogger(__name__)

_BACKOFF_FIRST_S: Final = 0.05
_MARKS_MAX: Final = 10_000


class Pump:
    """Sends what lies between its pointer and the end of the records, and the END after that.

    `next` is the pointer: everything below it was acknowledged since it was last put back.
    `marks` are the running hashes where parcels ended, from the newest booked one on.
    `has_unbooked` is set whenever the checkpoint may have something to say.
    """

    def __init__(
        self, source: Incarnation, bus: Bus, settings: JournalSettings, counts: Counts
    ) -> None:
        self.source = source
        self.next = 0
        self.marks: dict[int, bytes] = {0: source.id}
        self.is_end_sent = False
        self.is_stopped = False
        """Set beside every cancellation: `wait_for` of Python 3.11, which the broker's library rests
        on, drops one that meets an answer."""
        self.may_end_at_damage = False
        self.stopped_at = 0.0
        self.has_unbooked = asyncio.Event()
        self.is_lagging = asyncio.Event()
        self._bus = bus
        self._settings = settings
        self._counts = counts
        self._subject = exchanges_subject(source.partition)
        self._has_news = asyncio.Event()
        self._chain = source.id
        self._count: int | None = 0 if source.chain is not None else None
        self._time_ms = 0
        self._sent_max = 0
        self._rewind_to: int | None = None
        self._is_probe_due = False
        self._backoff = _BACKOFF_FIRST_S

    async def run(self) -> None:
        """Until cancelled, or `is_stopped`."""
        interval = self._settings.parcel_interval
        while not self.is_stopped:
            if self.source.is_sealed or len(self.source.segments) > 1:
                self.has_unbooked.set()
            if self._rewind_to is not None:
                target, self._rewind_to = self._rewind_to, None
                self.is_end_sent = False
                await self.go_to(target)
            if self._is_probe_due:
                self._is_probe_due = False
                await self._probe()
            if self._is_behind_booked():
                # Booked meanwhile, from the stream's other copies; the file may be gone already.
                await self.go_to(self.source.booked)
            if self.next >= self.source.end:
                # Also when a parcel arrived whose acknowledgement did not: it is booked.
                self.source.unshipped_since = None
            parcel, count_after = await self._next_parcel()
            if parcel is None:
                if self._is_behind_booked():
                    await asyncio.sleep(interval)
                else:
                    await self._wait_for_news()
                continue
            cut_at = time.monotonic()
            self._note_lag(cut_at)
            reaches_end = parcel.end >= self.source.end
            if not await self._send(parcel):
                continue
            self._advance(parcel, count_after, cut_at if reaches_end else None)
            left = self.source.end - self.next
            if left < self._settings.parcel_bytes_max and not self.source.is_sealed:
                await asyncio.sleep(cut_at + interval - time.monotonic())

    def nudge(self) -> None:
        """Look again whether there is something to do."""
        self._has_news.set()

    def rewind(self, target: int) -> None:
        """Go on from a logical offset; what lies behind it is sent again, from the file."""
        self._rewind_to = target if self._rewind_to is None else min(self._rewind_to, target)
        self._has_news.set()

    def probe(self) -> None:
        """Send the parcel at the booked offset once more, beside what is new."""
        self._is_probe_due = True
        self._has_news.set()

    async def go_to(self, target: int) -> None:
        """Put the pointer at a logical offset, with the hash that our own file has there."""
        source = self.source
        self._count = None
        end = self.limit()
        if target >= end and source.chain is not None and source.stop is None:
            target = end
        segment = source.segment_at(target)
        if segment is None:
            before = next((one for one in source.segments if one.end == target), None)
            first = source.segments[0] if source.segments else None
            if before is None and first is not None and target < first.base:
                # What lies before was booked and deleted; the checkpoint that says otherwise was
                # put back to an older state. Whether this is a gap is for metering to say.
                self.next, self._chain = first.base, first.header.base_chain
                return
            if before is None:
                self.next = min(target, end)
                self._chain = source.booked_chain or self._chain
                return
            segment = before
        with segment.pinned():
            chain = await asyncio.to_thread(chain_at, segment, target)
        if isinstance(chain, BadRecord):
            # Damage in what is booked already: the checkpoint's hash stands in.
            chain = source.booked_chain if target == source.booked else None
        if chain is None:
            # No record of ours ends there. Metering sees the fork at the hash of what we have.
            self._counts.faults += 1
            log.error("incarnation %s: no record ends at %d", source.id.hex(), target)
            target, chain = segment.base, segment.header.base_chain
        self.next, self._chain = target, chain

    def limit(self) -> int:
        """Nothing is sent from here on."""
        stop = self.source.stop
        return self.source.end if stop is None else stop.offset

    def halt(self, stop: Stop) -> None:
        """Nothing can be sent from `stop.offset` on; a writer goes on as a new incarnation."""
        source = self.source
        source.stop = stop
        self.may_end_at_damage = False
        self.stopped_at = time.monotonic()
        lost_bytes = source.end - stop.offset
        if stop.kind == "torn":
            self._counts.bytes_torn += lost_bytes
            log.warning("incarnation %s ends torn at %d", source.id.hex(), stop.offset)
        elif stop.kind in ("damaged", "forked"):
            self._counts.bytes_damaged += lost_bytes
            log.error(
                "incarnation %s %s at %d: %s", source.id.hex(), stop.kind, stop.offset, stop.reason
            )
        else:
            behind = [one.base for one in source.segments if one.base > stop.offset]
            self._counts.bytes_missing += min(behind, default=source.end) - stop.offset
            log.error(
                "incarnation %s has a gap at %d: %s", source.id.hex(), stop.offset, stop.reason
            )
        if not source.is_sealed:
            source.renew(f"{stop.kind} at {stop.offset}: {stop.reason}")

    async def _wait_for_news(self) -> None:
        source = self.source
        self._has_news.clear()
        if self.is_stopped or self._rewind_to is not None or self._is_probe_due:
            # Said while the turn waited for something else.
            return
        source.wake = self._has_news.set
        await self._has_news.wait()
        source.wake = None
        self._note_lag(time.monotonic())
        if not source.is_sealed:
            await asyncio.sleep(self._settings.parcel_interval)

    def _is_behind_booked(self) -> bool:
        return self.next < min(self.source.booked, self.limit())

    def _note_lag(self, now: float) -> None:
        source = self.source
        if source.end > self.next and source.unshipped_since is None:
            source.unshipped_since = now
            self.is_lagging.set()

    async def _next_parcel(self) -> tuple[Parcel | None, int | None]:
        """What to send now and the number of records up to its end, when known."""
        source = self.source
        if self.next >= self.limit():
            return (self._end_parcel(), None) if self._is_end_due() else (None, None)
        segment = source.segment_at(self.next)
        if segment is None and self._is_behind_booked():
            return None, None
        if segment is None:
            self.halt(Stop(self.next, "missing", "no segment holds these bytes"))
            return None, None
        count, end = source.count, source.end
        bytes_max = self._settings.parcel_bytes_max
        is_known = self._count is not None and source.chain is not None
        if is_known and segment is source.segments[-1] and end - self.next <= bytes_max:
            assert self._count is not None
            return cut_newest(source, segment, self.next, self._chain, self._count), count
        if self.next == segment.base and self._chain != segment.header.base_chain:
            self.halt(Stop(self.next, "damaged", "segments that do not belong together"))
            return None, None
        return await self._cut_checked(segment, end, count)

    async def _cut_checked(
        self, segment: Segment, end: int, count: int | None
    ) -> tuple[Parcel | None, int | None]:
        offset, chain = self.next, self.source.chain
        segment_end = min(segment.end, self.limit())
        with segment.pinned():
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
            self.halt(Stop(offset, "damaged", "not what was appended"))
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
        self.has_unbooked.set()
        if parcel.headers.is_end:
            self.is_end_sent = True
            return
        self._counts.parcels_shipped += 1
        self._counts.bytes_shipped += max(0, parcel.end - max(self.next, self._sent_max))
        self.next = parcel.end
        self._chain = parcel.chain_after
        self._count = count_after
        self._time_ms = max(self._time_ms, parcel.headers.last_time_ms)
        self.marks[self.next] = self._chain
        if len(self.marks) > _MARKS_MAX:
            del self.marks[next(iter(self.marks))]
        self._sent_max = max(self._sent_max, parcel.end)
        if cut_at is not None:
            source.unshipped_since = cut_at if source.end > self.next else None

    async def _probe(self) -> None:
        """Send what lies at the booked offset (or the first that is left) once more; the pointer
        stays where it is."""
        source = self.source
        offset = source.booked
        if source.segments:
            offset = max(offset, source.segments[0].base)
        segment = source.segment_at(offset)
        if segment is None or offset >= self.next:
            return
        with segment.pinned():
            chain = await asyncio.to_thread(chain_at, segment, offset)
            if not isinstance(chain, bytes):
                offset, chain = segment.base, segment.header.base_chain
            end = min(segment.end, self.limit())
            bytes_max = self._settings.parcel_bytes_max
            parcel, _ = await asyncio.to_thread(
                cut_stored, segment, offset, end, chain, bytes_max, 0
            )
        if parcel is not None:
            # A probe that fails is as good as one that nobody answers: the next comes later.
            with contextlib.suppress(BusUnavailable, BusRefused):
                headers = parcel.headers.to_headers()
                await self._bus.publish(self._subject, parcel.content, headers)

    def _is_end_due(self) -> bool:
        source = self.source
        if not source.is_sealed or self.is_end_sent or source.ended_at is not None:
            return False
        if max(source.end, source.booked) == 0:
            return False
        stop = source.stop
        return stop is None or stop.kind == "torn" or self.may_end_at_damage

    def _end_parcel(self) -> Parcel:
        source = self.source
        offset, chain = self.next, self._chain
        # After a power cut the file may hold less than what is booked: the END lies there.
        if source.booked > offset:
            offset, chain = source.booked, source.booked_chain or chain
        segment_no = source.segments[-1].header.segment_no if source.segments else 0
        time_ms = max(self._time_ms, source.last_time_ms)
        headers = ParcelHeaders(source.id, segment_no, offset, 0, chain, time_ms, is_end=True)
        return Parcel(headers, offset, chain, b"")

    async def _stop_at_bad(self, segment: Segment, offset: int, bad: BadRecord) -> None:
        is_last = segment is self.source.segments[-1]
        stop = await asyncio.to_thread(why_stop, segment, offset, bad, is_last=is_last)
        self.halt(stop)
