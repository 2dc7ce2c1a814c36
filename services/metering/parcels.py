"""Where a parcel stands against what is booked: next, behind, ahead, forked or damaged. Pure."""

from typing import Final

import google_crc32c
import msgspec

from contracts.checkpoint import Position
from contracts.records import (
    RECORD_BYTES_MAX,
    RECORD_HEADER,
    RECORD_HEADER_BYTES,
    ParcelHeaders,
    advance,
)

Place = tuple[bytes, int]
"""A record's payload and the logical offset of its end."""


class Next(msgspec.Struct, frozen=True):
    """The parcel goes on from what is booked; `damage` names what stopped it short, if anything."""

    records: list[Place]
    from_offset: int
    position: Position
    jumped_bytes: int = 0
    damage: str | None = None


class Behind(msgspec.Struct, frozen=True):
    """All of it is booked."""


class Ahead(msgspec.Struct, frozen=True):
    """A gap: something between `booked` and this parcel has not been seen."""

    booked: int


class Forked(msgspec.Struct, frozen=True):
    """Another content than the booked one at the booked offset."""

    reason: str


Standing = Next | Behind | Ahead | Forked
BEHIND: Final = Behind()


def stand(
    position: Position | None, headers: ParcelHeaders, content: bytes, *, is_lost: bool
) -> Standing:
    """Judge one parcel of an incarnation whose booked position is `position` (None: nothing yet).

    `is_lost` says that what lies between was declared lost, so that a gap is stepped over.
    """
    if position is None:
        position = Position(0, headers.incarnation.hex(), 0, headers.segment_no)
    booked, chain_hex = position.offset, position.chain
    offset, end = headers.offset, headers.offset + len(content)
    jumped = 0
    if offset > booked:
        if not is_lost:
            return Ahead(booked)
        jumped, booked, chain_hex = offset - booked, offset, None
    chain = headers.hash_before if chain_hex is None else bytes.fromhex(chain_hex)
    if end < booked or (end == booked and content and not headers.is_end):
        return BEHIND
    if end == booked and not content and not headers.is_end:
        if headers.last_time_ms <= position.last_time_ms:
            return BEHIND
    elif end == booked and headers.is_end and position.ended_at_ms is not None:
        return BEHIND
    if offset == booked and chain != headers.hash_before:
        return Forked(f"hash differs at booked offset {booked}")
    return _walk(position, headers, content, booked, None if chain_hex is None else chain, jumped)


def _walk(
    position: Position,
    headers: ParcelHeaders,
    content: bytes,
    booked: int,
    chain_at_booked: bytes | None,
    jumped: int,
) -> Standing:
    """Check every record, hash through what is booked already, keep the rest."""
    chain = headers.hash_before
    records: list[Place] = []
    keep = records.append
    at, total, base = 0, len(content), headers.offset
    damage = None
    unpack, crc_of = RECORD_HEADER.unpack_from, google_crc32c.value
    is_matched = base >= booked
    while at < total:
        start = at + RECORD_HEADER_BYTES
        if start > total:
            damage = "torn header"
            break
        length, crc = unpack(content, at)
        stop = start + length
        if length == 0 or length > RECORD_BYTES_MAX or stop > total:
            damage = "zero length" if length == 0 else "impossible length"
            break
        payload = content[start:stop]
        if crc_of(payload) != crc:
            damage = "checksum differs"
            break
        chain = advance(chain, content[at:start])
        at = stop
        if is_matched:
            keep((payload, base + stop))
        elif base + stop == booked:
            if chain_at_booked is not None and chain != chain_at_booked:
                return Forked(f"hash differs at booked offset {booked}")
            is_matched = True
        elif base + stop > booked:
            return Forked(f"a record straddles the booked offset {booked}")
    if not is_matched:
        return Forked(f"damaged before the booked offset {booked}: {damage}")
    reached = base + at
    after = msgspec.structs.replace(
        position,
        offset=reached,
        chain=chain.hex(),
        last_time_ms=position.last_time_ms
        if damage
        else max(position.last_time_ms, headers.last_time_ms),
        segment_no=headers.segment_no,
    )
    return Next(records, booked, after, jumped, damage)
