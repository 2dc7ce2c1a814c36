"""Identities are ordered by time and never repeat; money is exact."""

import uuid
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.ids import EventIdMaker, entry_id, from_text, to_text, unix_ms
from contracts.money import decimal_from_picousd, picousd_from_decimal, rounded_usd


@given(st.integers(0, 2**48 - 1))
def test_event_ids_are_uuid_version_7_of_their_time(now_ms: int) -> None:
    """RFC 9562 §5.7: 48 bits of milliseconds, version 7, variant 10."""
    value = EventIdMaker(lambda: now_ms * 1_000_000)()

    made = uuid.UUID(bytes=value)
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert unix_ms(value) == now_ms
    assert from_text(to_text(value)) == value


def test_event_ids_do_not_repeat() -> None:
    """Many within one millisecond, over several pools of chance."""
    make = EventIdMaker(lambda: 1_700_000_000_000_000_000)

    assert len({make() for _ in range(20_000)}) == 20_000


def test_entry_ids_depend_on_every_fact_and_on_nothing_else() -> None:
    """The same facts give the same id at every try; other facts another."""
    facts = (b"e" * 16, 0, "charge", b"\0" * 16)
    others = [
        (b"f" * 16, 0, "charge", b"\0" * 16),
        (b"e" * 16, 1, "charge", b"\0" * 16),
        (b"e" * 16, 0, "reversal", b"\0" * 16),
        (b"e" * 16, 0, "charge", b"\1" * 16),
    ]

    assert entry_id(*facts) == entry_id(*facts)
    assert len({entry_id(*other) for other in [facts, *others]}) == 5


@given(st.integers(-(10**30), 10**30))
def test_pico_dollars_survive_the_way_through_decimal(amount: int) -> None:
    """Exact in both directions, whatever the size."""
    assert picousd_from_decimal(decimal_from_picousd(amount)) == amount


def test_money_finer_than_a_pico_dollar_is_refused_not_rounded() -> None:
    """Rounding happens in one place, and this is not it."""
    with pytest.raises(ValueError, match="finer"):
        picousd_from_decimal(Decimal("0.0000000000001"))


def test_the_one_rounding_is_half_to_even() -> None:
    """Two, not three; four, not three."""
    assert rounded_usd(2_500_000_000_000, 0) == 2
    assert rounded_usd(3_500_000_000_000, 0) == 4
