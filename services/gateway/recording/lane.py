"""A lane: where one request after another is written down, one system call an event.

1. An append that returned is in the page cache: it survives the death of this process.
2. A write that failed or fell short leaves no part of a record behind a later one: the file is cut
   back to the last whole record and never appended to again.
3. When the state of a file or its lock is in doubt, the lane goes on as a new incarnation; offsets
   of the old one are never written again.
"""

import contextlib
import errno
import logging
import os
import time
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Final, NoReturn

import google_crc32c

from contracts.records import CHAIN_BYTES, RECORD_HEADER, RECORD_HEADER_BYTES, SegmentHeader
from gateway.ports import JournalUnavailable
from gateway.recording.counts import Counts, Usage
from gateway.recording.incarnation import Incarnation
from gateway.recording.segments import Segment, create, is_left

log = logging.getLogger(__name__)

_NO_SPACE: Final = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
_RETRY_S: Final = 1.0
_pack = RECORD_HEADER.pack
_crc32c: Callable[[bytes], int] = google_crc32c.value


class RecordTooLarge(ValueError):
    """The event is empty or over JOURNAL_RECORD_BYTES_MAX: bodies have to be cut before this."""


class Lane:
    """One lane of a worker, for the thread of its event loop only.

    The partition is fixed, so the admission and the end of a request that stays in its lane always
    meet in one partition, also across a change of incarnation.
    """

    __slots__ = (
        "_announce",
        "_counts",
        "_directory",
        "_incarnation",
        "_is_closed",
        "_next_no",
        "_now_ms",
        "_opened_at",
        "_random_bytes",
        "_retry_at",
        "_room",
        "_segment",
        "_segment_bytes",
        "_size_max",
        "_usage",
        "partition",
    )

    def __init__(
        self,
        directory: Path,
        partition: int,
        segment_bytes: int,
        record_bytes_max: int,
        usage: Usage,
        counts: Counts,
        now_ms: Callable[[], int],
        random_bytes: Callable[[int], bytes],
        announce: Callable[[Incarnation], None],
    ) -> None:
        self.partition = partition
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._size_max = record_bytes_max + RECORD_HEADER_BYTES
        self._usage = usage
        self._counts = counts
        self._now_ms = now_ms
        self._random_bytes = random_bytes
        self._announce = announce
        self._is_closed = False
        self._begin()
        with contextlib.suppress(JournalUnavailable):
            self._roll(0)

    @property
    def is_available(self) -> bool:
        """Whether the next append has somewhere to go, as far as is known."""
        return self._segment is not None and self._room >= 0 and not self._is_closed

    def append(self, payload: bytes) -> None:
        """Write one event. When this returns, the event survives the death of this process.

        Raises JournalUnavailable when nothing was written, RecordTooLarge.
        """
        size = len(payload) + RECORD_HEADER_BYTES
        if not RECORD_HEADER_BYTES < size <= self._size_max:
            raise RecordTooLarge(f"an event of {len(payload)} bytes")
        usage = self._usage
        if usage.stored + size > usage.bytes_max:
            self._refuse("full")
        if size > self._room:
            self._make_room(size)
        head = _pack(size - RECORD_HEADER_BYTES, _crc32c(payload))
        segment = self._segment
        try:
            written = os.writev(segment.fd, (head, payload))  # type: ignore[union-attr]
        except OSError as error:
            self._write_again((head, payload), size, error)
        else:
            if written != size:
                self._write_again((head, payload), size, None)
        incarnation = self._incarnation
        incarnation.chain = blake2b(
            incarnation.chain + head,  # type: ignore[operator]
            digest_size=CHAIN_BYTES,
        ).digest()
        incarnation.end = self._segment.end = incarnation.end + size  # type: ignore[union-attr]
        incarnation.count += 1  # type: ignore[operator]
        incarnation.last_time_ms = self._now_ms()
        self._room -= size
        usage.stored += size
        if incarnation.wake is not None:
            incarnation.call_wake()

    def roll_if_due(self, now: float, age_max_s: float, *, under_pressure: bool) -> None:
        """Roll a segment that is old, or wholly booked while space is short; try a failed one."""
        segment = self._segment
        if self._is_closed:
            return
        is_due = segment is None or self._room < 0
        if segment is not None and segment.end > segment.base:
            booked = self._incarnation.booked >= segment.end
            is_due = is_due or now - self._opened_at >= age_max_s or (under_pressure and booked)
        if is_due and now >= self._retry_at:
            with contextlib.suppress(JournalUnavailable):
                self._roll(0)

    def renew(self, reason: str) -> None:
        """Go on as a new incarnation; the old one gets no further record."""
        if self._is_closed or self._incarnation.is_sealed:
            return
        log.error("lane renewed: %s (incarnation %s)", reason, self._incarnation.id.hex())
        self._counts.incarnations_renewed += 1
        self._incarnation.seal()
        self._begin()
        with contextlib.suppress(JournalUnavailable):
            self._roll(0)

    def close(self) -> None:
        """No further append; the shipper may write the END."""
        self._is_closed = True
        self._room = -1
        self._incarnation.seal()

    def abandon_in_child(self) -> None:
        """In a forked child: drop the descriptors, or the child would hold the locks after us."""
        self._is_closed = True
        self._room = -1
        for segment in self._incarnation.segments:
            segment.close()

    def _begin(self) -> None:
        incarnation = Incarnation(self._random_bytes(16), self.partition)
        incarnation.chain = incarnation.id
        incarnation.count = 0
        incarnation.renew = self.renew
        self._incarnation = incarnation
        self._segment: Segment | None = None
        self._next_no = 0
        self._room = -1
        self._retry_at = 0.0
        self._opened_at = 0.0
        self._announce(incarnation)

    def _make_room(self, size: int) -> None:
        if self._is_closed:
            self._refuse("closed")
        if time.monotonic() < self._retry_at:
            self._refuse("disk")
        self._roll(size)

    def _roll(self, size: int) -> None:
        incarnation = self._incarnation
        assert incarnation.chain is not None
        header = SegmentHeader(
            incarnation.id, self._next_no, self.partition, incarnation.end, incarnation.chain
        )
        reserve = max(self._segment_bytes, size)
        # Also when it fails: a try that left its name behind must not stand in the way of the next.
        self._next_no += 1
        try:
            segment = create(self._directory, header, reserve)
        except OSError as error:
            self._retry_at = time.monotonic() + _RETRY_S
            log.error("no new journal segment: %s", error)
            if is_left(self._directory, header):
                # Its base says where the one before it ends: what came behind would not be adopted.
                self._room = -1
            self._refuse("disk", error)
        self._drop_if_empty()
        incarnation.segments.append(segment)
        incarnation.call_wake()
        self._segment = segment
        self._opened_at = time.monotonic()
        self._room = reserve
        self._usage.stored += segment.header_bytes

    def _write_again(self, buffers: tuple[bytes, bytes], size: int, error: OSError | None) -> None:
        """After a write that failed or fell short: one more try, elsewhere."""
        # Also of a write that failed: what was not promised must not be shipped by whoever adopts.
        self._cut_back()
        if error is None or error.errno in _NO_SPACE:
            self._counts.short_writes += 1
            self._make_room(size)
        else:
            self.renew(f"write failed: {error}")
            if size > self._room:
                self._make_room(size)
        segment = self._segment
        assert segment is not None
        try:
            written = os.writev(segment.fd, buffers)
        except OSError:
            written = -1
        if written != size:
            self._cut_back()
            self._counts.short_writes += 1
            self._retry_at = time.monotonic() + _RETRY_S
            self._refuse("disk")

    def _cut_back(self) -> None:
        """End the segment at its last whole record. The next one's base says where that is, so a
        cut that fails is no harm while there is a next one."""
        segment = self._segment
        self._room = -1
        if segment is not None:
            try:
                os.ftruncate(segment.fd, segment.header_bytes + segment.end - segment.base)
            except OSError:
                log.exception("segment %s was not cut back", segment.path.name)

    def _drop_if_empty(self) -> None:
        # A segment that failed at its first record would otherwise stay, one for every try.
        segment = self._segment
        if segment is not None and segment.end == segment.base and not segment.pins:
            # One that cannot be removed now goes with those that are booked.
            with contextlib.suppress(OSError):
                segment.delete()
                self._incarnation.segments.remove(segment)

    def _refuse(self, reason: str, cause: Exception | None = None) -> NoReturn:
        self._counts.appends_refused += 1
        raise JournalUnavailable(f"the journal cannot take the event: {reason}") from cause
