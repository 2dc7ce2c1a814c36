"""Where a parcel stands against what is booked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.checkpoint import Position
from contracts.records import ParcelHeaders, advance, frame
from metering.parcels import BEHIND, Ahead, Forked, Next, stand

INCARNATION = bytes(range(16))
RECORDS = [frame(bytes([n]) * (n + 1)) for n in range(6)]
OFFSETS = [0]
CHAINS = [INCARNATION]
for record in RECORDS:
    OFFSETS.append(OFFSETS[-1] + len(record))
    CHAINS.append(advance(CHAINS[-1], record[:8]))


def parcel(first: int, last: int, *, is_end: bool = False) -> tuple[ParcelHeaders, bytes]:
    headers = ParcelHeaders(INCARNATION, 0, OFFSETS[first], last - first, CHAINS[first], 9, is_end)
    return headers, b"".join(RECORDS[first:last])


def at(record_no: int, **facts: object) -> Position:
    return Position(OFFSETS[record_no], CHAINS[record_no].hex(), 5, 0, **facts)  # type: ignore[arg-type]


@given(st.integers(0, 6), st.integers(0, 5), st.integers(1, 6))
def test_any_cut_is_next_behind_or_ahead(booked: int, first: int, count: int) -> None:
    """Every byte range of the journal is judged by its offsets alone, and taken from booked on."""
    last = min(first + count, 6)
    standing = stand(at(booked), *parcel(first, last), is_lost=False)
    if first > booked:
        assert standing == Ahead(OFFSETS[booked])
    elif last <= booked:
        assert standing is BEHIND
    else:
        assert isinstance(standing, Next)
        assert [end for _, end in standing.records] == OFFSETS[booked + 1 : last + 1]
        assert standing.position.offset == OFFSETS[last]
        assert standing.position.chain == CHAINS[last].hex()
        assert standing.from_offset == OFFSETS[booked]


def test_a_first_parcel_begins_at_zero() -> None:
    """An incarnation nobody knows: from its first byte, or a gap."""
    assert isinstance(stand(None, *parcel(0, 2), is_lost=False), Next)
    assert stand(None, *parcel(1, 2), is_lost=False) == Ahead(0)


def test_another_hash_at_the_booked_offset_is_a_fork() -> None:
    """At the boundary and inside a straddling parcel; records that straddle are forks too."""
    headers, content = parcel(2, 4)
    other = Position(OFFSETS[2], bytes(16).hex(), 5, 0)
    assert isinstance(stand(other, headers, content, is_lost=False), Forked)
    straddled = Position(OFFSETS[3], bytes(16).hex(), 5, 0)
    assert isinstance(stand(straddled, headers, content, is_lost=False), Forked)
    inside = Position(OFFSETS[3] - 1, CHAINS[3].hex(), 5, 0)
    assert isinstance(stand(inside, headers, content, is_lost=False), Forked)


@pytest.mark.parametrize("flip", [0, 4, 9])
def test_damage_ends_a_parcel_at_the_last_good_record(flip: int) -> None:
    """What came before is taken, the clock of the journal does not advance."""
    headers, content = parcel(0, 4)
    place = OFFSETS[2] + flip
    damaged = content[:place] + bytes([content[place] ^ 0x40]) + content[place + 1 :]
    standing = stand(None, headers, damaged, is_lost=False)
    assert isinstance(standing, Next)
    assert standing.damage is not None
    assert standing.position.offset == OFFSETS[2]
    assert standing.position.last_time_ms == 0


@pytest.mark.parametrize("tail", [b"\x00" * 64, b"\x07\x00", RECORDS[5][:-1]])
def test_zeros_and_torn_ends_are_damage(tail: bytes) -> None:
    """A tail that a power cut left is no record."""
    headers, content = parcel(0, 2)
    standing = stand(None, headers, content + tail, is_lost=False)
    assert isinstance(standing, Next)
    assert standing.damage is not None
    assert standing.position.offset == OFFSETS[2]


def test_a_declared_loss_steps_over_the_gap() -> None:
    """The jump is counted in bytes, and the hash goes on from the parcel's own."""
    standing = stand(at(1), *parcel(3, 5), is_lost=True)
    assert isinstance(standing, Next)
    assert standing.jumped_bytes == OFFSETS[3] - OFFSETS[1]
    assert standing.from_offset == OFFSETS[3]
    assert standing.position.chain == CHAINS[5].hex()


def test_a_position_rebuilt_from_the_ledger_goes_on_at_its_offset_with_any_hash() -> None:
    """Also when the ledger's mark lies beyond: what arrives first may lie ahead of a filled gap."""
    rebuilt = Position(OFFSETS[1], None, 0, 0, verify_to=OFFSETS[4])
    assert stand(rebuilt, *parcel(3, 5), is_lost=False) == Ahead(OFFSETS[1])
    assert stand(rebuilt, *parcel(0, 1), is_lost=False) is BEHIND
    for first in (0, 1):
        standing = stand(rebuilt, *parcel(first, 2), is_lost=False)
        assert isinstance(standing, Next)
        assert standing.from_offset == OFFSETS[1]
        assert standing.position.chain == CHAINS[2].hex()


def test_an_end_counts_once_and_only_at_what_is_booked() -> None:
    """Ahead it is a gap, repeated it is behind; an empty parcel with a newer time moves the clock."""
    end = parcel(3, 3, is_end=True)
    assert isinstance(stand(at(3), *end, is_lost=False), Next)
    assert stand(at(3, ended_at_ms=7), *end, is_lost=False) is BEHIND
    assert stand(at(2), *end, is_lost=False) == Ahead(OFFSETS[2])
    assert stand(at(4), *end, is_lost=False) is BEHIND
    heartbeat = stand(at(3), *parcel(3, 3), is_lost=False)
    assert isinstance(heartbeat, Next)
    assert heartbeat.position.last_time_ms == 9
    assert stand(heartbeat.position, *parcel(3, 3), is_lost=False) is BEHIND


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Tw-Incarnation", "ab"),
        ("Tw-Hash-Before", ""),
        ("Tw-Offset", "-1"),
        ("Tw-Last-Time", "9" * 30),
        ("Tw-Segment", str(1 << 32)),
    ],
)
def test_headers_that_no_journal_writes_are_not_a_parcel(name: str, value: str) -> None:
    """They would break look-ups, rows or the checkpoint instead of becoming a dead letter."""
    headers, _ = parcel(0, 2)
    assert ParcelHeaders.from_headers(headers.to_headers()) == headers
    with pytest.raises(ValueError, match=r"sixteen|no journal"):
        ParcelHeaders.from_headers(headers.to_headers() | {name: value})
