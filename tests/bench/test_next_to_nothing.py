"""The benches that CI runs on next to nothing: they end with figures whatever the numbers are."""

import pytest

from bench.idle_streams import AT_ONCE, batches
from bench.metering import Look, measured


@pytest.mark.parametrize("streams", [1, AT_ONCE - 1, AT_ONCE, AT_ONCE + 1, 3 * AT_ONCE])
def test_as_many_streams_are_opened_as_were_asked_for(streams):
    """Not as many as whole batches hold."""
    opened = batches(streams)

    assert sum(opened) == streams
    assert 0 < min(opened) <= max(opened) <= AT_ONCE


@pytest.mark.parametrize(
    ("booked", "begins"),
    [((100, 900, 1000), 100), ((100, 1000, 1000), 100), ((1000, 1000, 1000), 0)],
    ids=["bit by bit", "in two", "at once"],
)
def test_a_round_is_measured_over_what_was_booked_meanwhile(booked, begins):
    """Of a thousand exchanges all may be in the ledger when it is first looked at."""
    looks = [Look(rows, float(at), [0.0], 0.0) for at, rows in enumerate((0, *booked))]
    first, last, end = measured(looks)

    assert first.booked == begins
    assert last.booked > first.booked
    assert (last, end) == tuple(looks[2:])
