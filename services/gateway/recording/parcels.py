"""Cutting parcels: byte ranges of a segment that end where a record ends."""

from collections.abc import Callable
from typing import Final

import google_crc32c
import msgspec

from contracts.records import (
    RECORD_BYTES_MAX,
    RECORD_HEADER,
    RECORD_HEADER_BYTES,
    BadRecord,
    ParcelHeaders,
    records,
)
from gateway.recording.incarnation import Incarnation, Stop
from gateway.recording.segments import Segment

_WALK_BYTES: Final = 4 * 1024 * 1024
_UNFILLED: Final = bytes(32)
_crc32c: Callable[[bytes], int] = google_crc32c.value


class Parcel(msgspec.Struct, frozen=True):
    """One message to be: records [offset, end) and what its headers say.

    `chain_after` is the running hash at `end`. An END has no content.
    """

    headers: ParcelHeaders
    end: int
    chain_after: bytes
    content: bytes


class _Stamp(msgspec.Struct, frozen=True, array_like=True):
    """The first fields of every event."""

    type: str
    event_id: bytes
    admitted_at_ms: int


_stamps = msgspec.msgpack.Decoder(_Stamp)


def cut_newest(
    source: Incarnation, segment: Segment, offset: int, chain: bytes, count: int
) -> Parcel:
    """Everything from `offset` to the end of a source we append to; the records are not walked,
    since their hash and number are known. `count` is the number of records before `offset`."""
    assert source.chain is not None
    assert source.count is not None
    headers = ParcelHeaders(
        source.id,
        segment.header.segment_no,
        offset,
        source.count - count,
        chain,
        source.last_time_ms,
    )
    return Parcel(headers, source.end, source.chain, segment.read(offset, source.end - offset))


def cut_stored(
    segment: Segment, offset: int, end: int, chain: bytes, bytes_max: int, time_ms: int
) -> tuple[Parcel | None, BadRecord | None]:
    """A parcel of up to `bytes_max` bytes of [offset, end) out of the file, or one longer record.

    Every record is checked. The second value tells of a bad record, whose `position` counts from
    `offset`; the parcel then holds the good records before it, and is None when there are none.
    `time_ms` is the newest time known before `offset`: records of an event carry only the time of
    their admission, which never overstates how far the writer's clock had got.
    """
    left = end - offset
    content = segment.read(offset, min(left, bytes_max))
    if bytes_max < left and len(content) >= RECORD_HEADER_BYTES:
        length = RECORD_HEADER.unpack_from(content)[0] + RECORD_HEADER_BYTES
        if len(content) < length <= RECORD_BYTES_MAX:
            content = segment.read(offset, min(left, length))
    is_whole = len(content) == left
    good = 0
    count = 0
    after = chain
    bad: BadRecord | None = None
    try:
        for record in records(content, offset, chain):
            good = record.end - offset
            after = record.chain
            count += 1
            time_ms = max(time_ms, _time_ms(record.payload))
    except BadRecord as error:
        # A record that our own cut tore is whole in the file and opens the next parcel.
        is_our_cut = error.reason.startswith("torn") and not is_whole and good > 0
        bad = None if is_our_cut else error
    if bad is None and good == 0:
        bad = BadRecord(0, "missing bytes")
    if good == 0:
        return None, bad
    headers = ParcelHeaders(
        segment.header.incarnation, segment.header.segment_no, offset, count, chain, time_ms
    )
    return Parcel(headers, offset + good, after, content[:good]), bad


def chain_at(segment: Segment, offset: int) -> bytes | BadRecord | None:
    """The running hash at a logical offset of the segment.

    None when the records are good and none ends there; the bad record when one lies before.
    """
    position = segment.base
    chain = segment.header.base_chain
    while position < offset:
        parcel, bad = cut_stored(segment, position, segment.end, chain, _WALK_BYTES, 0)
        if parcel is None:
            return bad
        if parcel.end > offset:
            for record in records(parcel.content, position, chain):
                if record.end >= offset:
                    return record.chain if record.end == offset else None
        position, chain = parcel.end, parcel.chain_after
        if bad is not None and position < offset:
            return bad
    return chain


def why_stop(segment: Segment, offset: int, bad: BadRecord, *, is_last: bool) -> Stop:
    """What a bad record at logical `offset` is: the torn end of the last write, or damage.

    Torn is only the last record of the last segment. Either the file ends inside it and no good
    record lies behind its beginning (a damaged length would look the same, but for that), or it
    ends in zeros: blocks that a power cut left unfilled.
    """
    rest_bytes = segment.end - offset
    tail = segment.read(offset, min(rest_bytes, RECORD_BYTES_MAX + RECORD_HEADER_BYTES))
    is_torn = False
    if is_last and rest_bytes == len(tail):
        is_short = bad.reason.startswith("torn") and not _holds_a_record(tail[1:])
        is_torn = is_short or _ends_unfilled(tail, bad)
    elif is_last:
        is_torn = _is_zero(segment, offset)
    kind = "torn" if is_torn else "damaged"
    return Stop(offset, kind, f"{bad.reason}, {rest_bytes} bytes")


def _ends_unfilled(tail: bytes, bad: BadRecord) -> bool:
    if not tail.strip(b"\x00"):
        return True
    if bad.reason != "checksum differs":
        return False
    end = RECORD_HEADER.unpack_from(tail)[0] + RECORD_HEADER_BYTES
    return tail.endswith(_UNFILLED) and not tail[end:].strip(b"\x00")


def _holds_a_record(tail: bytes) -> bool:
    """Whether a whole, good record begins anywhere in the first megabytes of `tail`."""
    total = len(tail)
    for position in range(min(total - RECORD_HEADER_BYTES, _WALK_BYTES)):
        length, crc = RECORD_HEADER.unpack_from(tail, position)
        start = position + RECORD_HEADER_BYTES
        if 0 < length <= total - start and _crc32c(tail[start : start + length]) == crc:
            return True
    return False


def _is_zero(segment: Segment, offset: int) -> bool:
    while piece := segment.read(offset, _WALK_BYTES):
        if piece.strip(b"\x00"):
            return False
        offset += len(piece)
    return True


def _time_ms(payload: bytes) -> int:
    try:
        return _stamps.decode(payload).admitted_at_ms
    except msgspec.DecodeError:
        return 0
