"""From records to what a batch books: decoding, what to look up, charges and open admissions. Pure."""

from collections.abc import Iterable
from typing import Final

import msgspec

from contracts.checkpoint import Position
from contracts.exchange import Event, ExchangeCompleted, RequestAdmitted, decode
from contracts.records import BadRecord, records
from metering.openings import Opening, Openings
from metering.ports import Chargeable, DeadLetter, Known, Message
from metering.reading import Gap, Taken

# The library lets the last two through: a text that is not UTF-8, and arrays nested too deep.
UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Happened(msgspec.Struct, frozen=True, gc=False):
    """A decoded event and where its record ends."""

    event: Event
    incarnation: bytes
    segment_no: int
    offset: int
    seq: int


class Settled(msgspec.Struct, frozen=True):
    """The exchanges a batch charges."""

    charges: list[Chargeable]


def decode_all(taken: dict[str, list[Taken]]) -> tuple[list[Happened], list[DeadLetter]]:
    """Events ordered by incarnation and offset, and a dead letter for each that is none."""
    happened: list[Happened] = []
    letters: list[DeadLetter] = []
    for name in sorted(taken):
        incarnation = bytes.fromhex(name)
        for record in taken[name]:
            try:
                event = decode(record.payload)
                if len(event.event_id) != 16:
                    raise msgspec.ValidationError("event_id is not sixteen bytes")
            except UNREADABLE as error:
                letters.append(
                    DeadLetter(
                        identity=f"record:{name}:{record.offset}",
                        reason=f"undecodable: {error}",
                        incarnation=incarnation,
                        offset=record.offset,
                        seq=record.seq,
                        content=record.payload,
                    )
                )
                continue
            happened.append(
                Happened(event, incarnation, record.segment_no, record.offset, record.seq)
            )
    return happened, letters


def ids_to_look_up(
    happened: Iterable[Happened], positions: dict[str, Position], openings: Openings
) -> list[bytes]:
    """Events the ledger may hold already.

    Those below an incarnation's `verify_to`, and completions whose admission is not open: it was
    closed as abandoned, or never seen.
    """
    ids: dict[bytes, None] = {}
    admitted: set[bytes] = set()
    verify_to_by_incarnation: dict[bytes, int] = {}
    for each in happened:
        event = each.event
        verify_to = verify_to_by_incarnation.get(each.incarnation)
        if verify_to is None:
            verify_to = positions[each.incarnation.hex()].verify_to
            verify_to_by_incarnation[each.incarnation] = verify_to
        if isinstance(event, RequestAdmitted):
            admitted.add(event.event_id)
            if each.offset <= verify_to:
                ids[event.event_id] = None
        elif each.offset <= verify_to or (
            event.was_admitted and event.event_id not in admitted and event.event_id not in openings
        ):
            ids[event.event_id] = None
    return list(ids)


def settle(
    happened: Iterable[Happened],
    known: dict[bytes, Known],
    looked_up: Iterable[bytes],
    openings: Openings,
) -> Settled:
    """Open what was admitted, charge what ended once, skip what the ledger holds.

    A lane that went on as another incarnation writes a request's admission in one and its end in
    the other, and a batch may hold the end first.
    """
    charges: list[Chargeable] = []
    ended: set[bytes] = set()
    unsure = set(looked_up)
    for each in happened:
        event = each.event
        event_id = event.event_id
        if isinstance(event, RequestAdmitted):
            if event_id not in known and event_id not in ended:
                openings.open(
                    Opening(event, each.incarnation, each.segment_no, each.offset, each.seq)
                )
            continue
        openings.close(event_id)
        if event_id in ended:
            continue
        ended.add(event_id)
        reverses = None
        if event_id in unsure:
            booked = known.get(event_id)
            if booked is not None:
                if booked.abandoned is None:
                    continue
                reverses = booked.abandoned
        charges.append(Chargeable(event, each.incarnation, each.segment_no, each.offset, reverses))
    return Settled(charges)


def reread(
    messages: Iterable[Message],
    positions: dict[str, Position],
    openings: Openings,
    gaps: dict[str, Gap],
) -> None:
    """Replay booked parcels into the open admissions, and note parcels that lie ahead.

    A parcel sent again can open what was closed before the range began: the caller subtracts what
    the ledger knows.
    """
    for message in messages:
        headers = message.headers
        if headers is None:
            continue
        name = headers.incarnation.hex()
        position = positions.get(name)
        booked = 0 if position is None else position.offset
        end = headers.offset + len(message.content)
        if end > booked:
            gap = gaps.get(name)
            gaps[name] = (
                Gap(message.seq, end) if gap is None else Gap(gap.first_seq, max(gap.ahead_to, end))
            )
        try:
            for record in records(message.content, headers.offset, headers.hash_before):
                if record.end > booked:
                    break
                event = _decoded(record.payload)
                if isinstance(event, RequestAdmitted):
                    openings.open(
                        Opening(
                            event, headers.incarnation, headers.segment_no, record.end, message.seq
                        )
                    )
                elif isinstance(event, ExchangeCompleted):
                    openings.close(event.event_id)
        except BadRecord:
            continue


def _decoded(payload: bytes) -> Event | None:
    try:
        return decode(payload)
    except UNREADABLE:
        return None
