"""The journal of one worker: its lanes, their shippers, and the segments of the dead it adopts."""

import asyncio
import contextlib
import logging
import os
import time
import weakref
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from gateway.ports import Bus
from gateway.recording.adoption import adopt
from gateway.recording.counts import Counts, JournalFacts, Usage
from gateway.recording.incarnation import Incarnation
from gateway.recording.lane import Lane
from gateway.recording.segments import check_filesystem, stored_bytes
from gateway.recording.settings import JournalSettings
from gateway.recording.shipper import Shipper

log = logging.getLogger(__name__)

_TICK_S = 1.0
_CANCEL_S = 5.0
_ACCEPT_BELOW = 0.8
_REFUSE_FROM = 0.9
"""Shares of JOURNAL_BYTES_MAX. The tenth above is for the ends of requests already admitted."""


class Journal:
    """What a worker owes the bus. `open`, then `start` with a bus, then `stop`; one event loop."""

    def __init__(
        self,
        directory: Path,
        settings: JournalSettings,
        partitions: int,
        now_ms: Callable[[], int],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self.directory = directory
        self.counts = Counts()
        self._settings = settings
        self._usage = Usage(settings.journal_bytes_max)
        self._usage.stored = stored_bytes(directory)
        self._sources: dict[bytes, Incarnation] = {}
        self._unshipped: list[Incarnation] = []
        self._shippers: dict[asyncio.Task[None], Shipper] = {}
        self._bus: Bus | None = None
        self._ticking: asyncio.Task[None] | None = None
        self._is_stopping = False
        self._below_mark = True
        self._turn = 0
        self._events_before = 0
        self._bytes_before = 0
        # A quarter of the limit for all lanes' newest segments, or they alone could reach it.
        segment_bytes = min(
            settings.journal_segment_bytes,
            max(1, settings.journal_bytes_max // (4 * settings.journal_lanes)),
        )
        first = int.from_bytes(random_bytes(4), "big")
        self._lanes = [
            Lane(
                directory,
                (first + number) % partitions,
                segment_bytes,
                settings.journal_record_bytes_max,
                self._usage,
                self.counts,
                now_ms,
                random_bytes,
                self._take,
            )
            for number in range(settings.journal_lanes)
        ]
        _journals.add(self)

    @classmethod
    def open(
        cls,
        directory: Path,
        settings: JournalSettings,
        partitions: int,
        now_ms: Callable[[], int],
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> "Journal":
        """Make the lanes; appending works from here on. `now_ms` is Unix time in milliseconds.

        Raises UnsafeFilesystem, OSError. A full disk is no error: nothing is accepted until it has
        room.
        """
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not settings.journal_any_filesystem:
            check_filesystem(directory)
        return cls(directory, settings, partitions, now_ms, random_bytes)

    @classmethod
    @contextlib.asynccontextmanager
    async def running(
        cls,
        directory: Path,
        settings: JournalSettings,
        bus: Bus,
        stop_s: float = 10.0,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> AsyncIterator["Journal"]:
        """An open journal that ships to `bus` while the block lasts; leaving it stops within
        `stop_s`."""
        journal = cls.open(directory, settings, settings.metering_partitions, now_ms)
        journal.start(bus)
        try:
            yield journal
        finally:
            await journal.stop(stop_s)

    def lane(self) -> Lane:
        """A lane for one request: its admission and its end both go there."""
        lanes = self._lanes
        for _ in lanes:
            self._turn = turn = (self._turn + 1) % len(lanes)
            if lanes[turn].is_available:
                break
        return lanes[self._turn]

    @property
    def is_accepting(self) -> bool:
        """Whether new requests should be admitted; ends of admitted ones may still be appended."""
        share = self._usage.stored / self._usage.bytes_max
        self._below_mark = share < (_REFUSE_FROM if self._below_mark else _ACCEPT_BELOW)
        if not self._below_mark:
            return False
        # Asked at every request: a loop costs half of what `any` does here.
        for lane in self._lanes:
            if lane.is_available:
                break
        else:
            return False
        if not self._settings.journal_volatile:
            return True
        age_s = self.oldest_unshipped_age_s()
        return age_s is None or age_s < self._settings.journal_volatile_age

    def oldest_unshipped_age_s(self) -> float | None:
        """Seconds since the oldest unshipped byte was appended (or adopted), at most; or None."""
        since = [
            source.unshipped_since
            for source in self._sources.values()
            if source.unshipped_since is not None
        ]
        return max(0.0, time.monotonic() - min(since)) if since else None

    def facts(self) -> JournalFacts:
        """Counted facts, for metrics and admission."""
        own = [one for one in self._sources.values() if one.count is not None]
        return JournalFacts(
            self.is_accepting,
            self._events_before + sum(one.count or 0 for one in own),
            self._bytes_before + sum(one.end for one in own),
            self._usage.stored,
            self.oldest_unshipped_age_s(),
            {name: getattr(self.counts, name) for name in Counts.__slots__},
        )

    def start(self, bus: Bus) -> None:
        """Begin to ship, and to look for the segments of the dead."""
        self._bus = bus
        for source in self._unshipped:
            self._ship(source)
        self._unshipped.clear()
        self._ticking = asyncio.get_running_loop().create_task(self._tick())

    async def stop(self, deadline_s: float) -> None:
        """No further append. Ships all, writes the ENDs, waits until they are booked, in time.

        What is not booked by then stays on disk; the next start adopts it.
        """
        self._is_stopping = True
        for lane in self._lanes:
            lane.close()
        if self._ticking is not None:
            self._ticking.cancel()
            await asyncio.wait([self._ticking])
        own = [task for task, one in self._shippers.items() if one.source.count is not None]
        for task in own:
            self._shippers[task].drain()
        if own:
            await asyncio.wait(own, timeout=deadline_s)
        tasks = list(self._shippers)
        for task in tasks:
            self._shippers[task].stop()
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_CANCEL_S)
        for source in self._sources.values():
            source.close()
        self._sources.clear()

    def abandon_in_child(self) -> None:
        """In a forked child: let go of every descriptor, so that the locks die with the owner."""
        for lane in self._lanes:
            lane.abandon_in_child()
        for source in self._sources.values():
            source.close()

    def _take(self, source: Incarnation) -> None:
        self._sources[source.id] = source
        if self._bus is None:
            self._unshipped.append(source)
        elif not self._is_stopping:
            self._ship(source)

    def _ship(self, source: Incarnation) -> None:
        assert self._bus is not None
        shipper = Shipper(source, self._bus, self._settings, self.counts, self._usage)
        task = asyncio.get_running_loop().create_task(shipper.run())
        self._shippers[task] = shipper
        task.add_done_callback(self._shipper_ended)

    def _shipper_ended(self, task: "asyncio.Task[None]") -> None:
        source = self._shippers.pop(task).source
        error = None if task.cancelled() else task.exception()
        if error is None and not source.segments and not task.cancelled():
            self._events_before += source.count or 0
            self._bytes_before += source.end if source.count is not None else 0
            del self._sources[source.id]
        elif not self._is_stopping:
            # A shipper that failed has lost nothing: another begins at what is booked.
            self.counts.faults += 1
            log.error("shipper of %s failed", source.id.hex(), exc_info=error)
            asyncio.get_running_loop().call_later(_TICK_S, self._ship_again, source)

    def _ship_again(self, source: Incarnation) -> None:
        if not self._is_stopping:
            self._ship(source)

    async def _tick(self) -> None:
        """Every second: recount the directory, roll what is old, adopt the dead."""
        adopt_at = 0.0
        while True:
            now = time.monotonic()
            try:
                self._usage.stored = await asyncio.to_thread(stored_bytes, self.directory)
                is_short = not self.is_accepting
                for lane in self._lanes:
                    lane.roll_if_due(
                        now, self._settings.journal_segment_age, under_pressure=is_short
                    )
                if now >= adopt_at:
                    adopt_at = now + self._settings.adopt_interval
                    await self._adopt()
            except Exception:
                # Whatever it was, lanes must go on being rolled and the dead adopted.
                self.counts.faults += 1
                log.exception("the journal's directory %s is in trouble", self.directory)
            await asyncio.sleep(min(_TICK_S, self._settings.adopt_interval))

    async def _adopt(self) -> None:
        adopted_now = sum(1 for one in self._sources.values() if one.count is None)
        room = self._settings.adopt_max - adopted_now
        if room <= 0:
            return
        held = set(self._sources)
        # On the loop: a lane that rolled meanwhile must not look like one of the dead.
        for source in adopt(self.directory, held, self.counts, room):
            log.info("adopted incarnation %s, %d segments", source.id.hex(), len(source.segments))
            self._sources[source.id] = source
            self._ship(source)


_journals: "weakref.WeakSet[Journal]" = weakref.WeakSet()


def _abandon_all() -> None:
    for journal in list(_journals):
        with contextlib.suppress(OSError):
            journal.abandon_in_child()


os.register_at_fork(after_in_child=_abandon_all)
