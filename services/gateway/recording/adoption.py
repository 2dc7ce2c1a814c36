"""The segments of the dead: found by a lock that can be taken, all of an incarnation or none.

An owner locks every new segment before it lets go of any other, so holding all of an incarnation's
locks, with no file of it that we have not seen, proves that nobody writes it.
"""

import contextlib
import logging
import os
import time
from pathlib import Path
from typing import Final

from contracts.records import SEGMENT_HEADER_BYTES, BadSegment, SegmentHeader
from gateway.recording.counts import Counts
from gateway.recording.incarnation import Incarnation
from gateway.recording.segments import DRAFT_SUFFIX, Segment, lock, parse_name

log = logging.getLogger(__name__)

DRAFT_AGE_S: Final = 10.0
"""Between making a draft and locking it lie two system calls."""


def adopt(directory: Path, held: set[bytes], counts: Counts, at_most: int) -> list[Incarnation]:
    """Up to `at_most` incarnations of the dead, sealed, under our locks; `held` are passed over."""
    adopted: list[Incarnation] = []
    by_incarnation: dict[bytes, set[str]] = {}
    for name in _names(directory):
        if name.endswith(DRAFT_SUFFIX):
            _remove_draft(directory / name)
        elif (parsed := parse_name(name)) is not None:
            by_incarnation.setdefault(parsed[0], set()).add(name)
    for incarnation, names in by_incarnation.items():
        if len(adopted) >= at_most:
            break
        if incarnation in held:
            continue
        try:
            descriptors = _lock_all(directory, incarnation, names)
            if descriptors is None:
                continue
            source = _open(directory, incarnation, descriptors, counts)
        except OSError:
            # The others are adopted all the same, and this one when the next scan finds it well.
            counts.faults += 1
            log.exception("incarnation %s cannot be adopted now", incarnation.hex())
            continue
        if source is not None:
            counts.adopted += 1
            adopted.append(source)
    return adopted


def _names(directory: Path) -> list[str]:
    return sorted(os.listdir(directory))  # noqa: PTH208 - names are all we need


def _remove_draft(path: Path) -> None:
    """A draft nobody holds is of one who died while making it; there is no record in it.

    A young one may be of a sibling that has yet to lock it, for whom there would be no new segment.
    """
    try:
        if time.time() - path.stat().st_mtime < DRAFT_AGE_S:
            return
        fd = lock(path)
        if fd is not None:
            try:
                path.unlink(missing_ok=True)
            finally:
                os.close(fd)
    except FileNotFoundError:
        pass  # Its maker has linked it to its own name meanwhile.
    except OSError:
        log.exception("draft %s cannot be removed now", path.name)


def _lock_all(directory: Path, incarnation: bytes, names: set[str]) -> dict[str, int] | None:
    descriptors: dict[str, int] = {}
    with contextlib.ExitStack() as undo:
        # Newest first: the lock a living owner is sure to hold.
        for name in sorted(names, reverse=True):
            fd = lock(directory / name)
            if fd is None:
                return None
            descriptors[name] = fd
            undo.callback(os.close, fd)
        prefix = incarnation.hex()
        now = {n for n in _names(directory) if n.startswith(prefix) and parse_name(n) is not None}
        if now != names:
            return None
        undo.pop_all()
    return descriptors


def _open(
    directory: Path, incarnation: bytes, descriptors: dict[str, int], counts: Counts
) -> Incarnation | None:
    segments: list[Segment] = []
    try:
        while descriptors:
            name, fd = descriptors.popitem()
            segment = _open_segment(directory / name, fd, counts)
            if segment is not None:
                segments.append(segment)
        if not segments:
            return None
        segments.sort(key=lambda segment: (segment.base, segment.header.segment_no))
        source = Incarnation(incarnation, segments[0].header.partition)
        for segment, following in zip(segments, [*segments[1:], None], strict=True):
            segment.end = segment.base + segment.data_bytes()
            if following is not None:
                # What lies behind the next one's base was a write that its owner took back.
                segment.end = min(segment.end, following.base)
    except BaseException:
        # A lock that nobody looks after would keep every other adopter away.
        for fd in (*descriptors.values(), *(segment.fd for segment in segments)):
            os.close(fd)
        raise
    source.segments.extend(segments)
    source.end = segments[-1].end
    source.is_sealed = True
    return source


def _open_segment(path: Path, fd: int, counts: Counts) -> Segment | None:
    """The segment; None when there is none in the file, which is then gone or set aside.

    Raises OSError, the descriptor closed.
    """
    try:
        head = os.pread(fd, SEGMENT_HEADER_BYTES, 0)
        try:
            header = SegmentHeader.unpack(head)
            if (header.incarnation, header.segment_no) != parse_name(path.name):
                raise BadSegment("the header is of another file")
        except BadSegment as error:
            if len(head) < SEGMENT_HEADER_BYTES:
                log.warning("removed %s: it ends inside its header", path.name)
                path.unlink(missing_ok=True)
                os.close(fd)
                return None
            kept = Segment(path, fd, _NO_HEADER).quarantine()
            counts.segments_quarantined += 1
            log.error("kept for the operator: %s, %s", kept.name, error)
            return None
    except OSError:
        os.close(fd)
        raise
    return Segment(path, fd, header)


_NO_HEADER = SegmentHeader(bytes(16), 0, 0, 0, bytes(16))
