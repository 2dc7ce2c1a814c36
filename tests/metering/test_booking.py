"""Parcels on a real stream become rows in a real ledger, with net effect one."""

import time

import pytest
from metering_events import SETTING, make_admitted, make_completed
from metering_shipping import exchanges
from metering_stack import Stack, book_all

from contracts.exchange import Attempt
from contracts.ids import new_id, to_text

pytestmark = pytest.mark.xdist_group("metering-clickhouse")


async def test_exchanges_are_booked_priced_and_committed(stack: Stack) -> None:
    """Two incarnations in one partition: one row an exchange, at the price book's price."""
    one, two = await stack.shipper(), await stack.shipper()
    one.write(exchanges(150))
    two.write(exchanges(70))
    await one.ship()
    seqs = await two.ship()
    meter = await stack.meter()
    await book_all(meter)
    assert await stack.totals() == {"rows": 220, "events": 220, "requests": 220, "wrong": 0}
    [[cost, status, bodies]] = await stack.http.rows(
        "SELECT toString(sum(cost_usd)), any(rating_status), (SELECT count() FROM bodies) "
        "FROM entries"
    )
    # gpt-4o: 10 tokens in at 2.50 and 5 out at 10.00 USD a million.
    assert (cost, status, int(bodies)) == ("0.0165", "rated", 220)
    checkpoint = await stack.checkpoint()
    assert checkpoint.committed_seq == seqs[-1]
    assert checkpoint.pending is None
    assert checkpoint.oldest_open_seq is None
    assert checkpoint.incarnations[one.name].offset == one.offsets[-1]
    assert meter.progress.looked_up == 0


async def test_an_attempt_that_may_be_billed_is_booked_beside_its_exchange(stack: Stack) -> None:
    """Two rows, one request, sent twice and booked once; the late end of an abandoned one too."""
    lost = Attempt(SETTING, "gpt-4o", None, "read_timeout", 0, 9, None, None)
    won = Attempt(SETTING, "gpt-4o", 200, None, 9, 9, 9, None)
    old_ms = int(time.time() * 1000) - 36_000_000
    late = make_completed(attempts=(lost, won), admitted_at_ms=old_ms)
    shipper = await stack.shipper()
    shipper.write([make_completed(attempts=(lost, won))])
    shipper.write(
        [make_admitted(event_id=late.event_id, admitted_at_ms=old_ms, timeout_ms=5_000)],
        at_ms=old_ms,
    )
    await shipper.ship()
    meter = await stack.meter()
    await book_all(meter)
    assert await stack.totals() == {"rows": 2, "events": 1, "requests": 1, "wrong": 0}
    shipper.write(exchanges(1))
    await shipper.ship()
    await book_all(meter)
    shipper.write([late])
    await shipper.ship(first=0, records_per_parcel=1)
    await book_all(meter)
    totals = await stack.totals()
    assert (totals["events"], totals["requests"], totals["wrong"]) == (3, 3, 0)
    rows = await stack.http.rows(
        "SELECT kind, attempt_no, requests, isNull(cost_usd) FROM entries "
        "WHERE event_id = {event:UUID} ORDER BY kind, attempt_no",
        event=to_text(late.event_id),
    )
    assert [tuple(row) for row in rows] == [
        ("charge", 0, 1, 1),
        ("reversal", 0, -1, 1),
        ("replacement", 0, 0, 1),
        ("replacement", 1, 1, 0),
    ]


async def test_parcels_sent_again_and_cut_anew_are_booked_once(stack: Stack) -> None:
    """Repetition, other cuts and overlaps change nothing."""
    shipper = await stack.shipper()
    shipper.write(exchanges(50))
    await shipper.ship(records_per_parcel=7)
    meter = await stack.meter()
    await book_all(meter)
    shipper.write(exchanges(50))
    await shipper.ship(first=0, records_per_parcel=33)
    await shipper.ship(first=90, records_per_parcel=11)
    await book_all(meter)
    assert await stack.totals() == {"rows": 100, "events": 100, "requests": 100, "wrong": 0}


async def test_an_admission_without_an_end_is_abandoned_by_journal_time(stack: Stack) -> None:
    """Not before the journal has gone past its timeout and grace, however late it is."""
    shipper = await stack.shipper()
    old_ms = int(time.time() * 1000) - 36_000_000
    shipper.write([make_admitted(admitted_at_ms=old_ms, timeout_ms=5_000)], at_ms=old_ms)
    await shipper.ship()
    meter = await stack.meter()
    await book_all(meter)
    assert (await stack.totals())["rows"] == 0
    assert (await stack.checkpoint()).oldest_open_seq == 1

    shipper.write(exchanges(1, at_ms=old_ms), at_ms=old_ms + 7_000)
    await shipper.ship()
    # Another owner, who has to find the open admission in the stream.
    await book_all(await stack.meter())
    rows = await stack.http.rows("SELECT outcome, requests, cost_usd FROM entries ORDER BY outcome")
    assert [row[:2] for row in rows] == [["abandoned", 1], ["answered", 1]]
    assert rows[0][2] is None
    assert (await stack.checkpoint()).oldest_open_seq is None


async def test_an_end_of_journal_closes_what_it_admitted(stack: Stack) -> None:
    """END booked: its open admissions are abandoned, once."""
    shipper = await stack.shipper()
    shipper.write([make_admitted(), *exchanges(3), make_admitted()])
    await shipper.ship()
    await shipper.end()
    await book_all(await stack.meter())
    await book_all(await stack.meter())
    totals = await stack.totals()
    assert totals == {"rows": 5, "events": 5, "requests": 5, "wrong": 0}
    assert (await stack.checkpoint()).incarnations[shipper.name].ended_at_ms is not None


async def test_an_end_after_a_declared_loss_is_charged_beside_a_reversal(stack: Stack) -> None:
    """The abandoned row is taken back, the charge replaces it; requests stay one."""
    shipper = await stack.shipper()
    event_id = new_id()
    at_ms = int(time.time() * 1000)
    shipper.write([make_admitted(event_id=event_id, admitted_at_ms=at_ms)])
    await shipper.ship()
    bucket = await stack.jetstream.key_value("CHECKPOINTS")
    await bucket.put(f"lost.{shipper.name}", b"declared")
    await book_all(await stack.meter())
    assert (await stack.totals())["requests"] == 1
    assert (await stack.checkpoint()).incarnations[shipper.name].ended_at_ms is not None

    shipper.write([make_completed(event_id=event_id, admitted_at_ms=at_ms)])
    await shipper.ship()
    await book_all(await stack.meter())
    rows = await stack.http.rows(
        "SELECT kind, requests, toString(cost_usd), outcome FROM entries ORDER BY kind"
    )
    assert rows == [
        ["charge", 1, None, "abandoned"],
        ["reversal", -1, None, "abandoned"],
        ["replacement", 1, "0.000075", "answered"],
    ]


async def test_an_incarnation_that_ended_long_ago_is_dropped_and_still_booked_once(
    stack: Stack,
) -> None:
    """The checkpoint stays small; a parcel of a dropped one is looked up, not booked again."""
    meter = await stack.meter(keep_ended_ms=0)
    for _ in range(12):
        shipper = await stack.shipper()
        shipper.write(exchanges(3))
        await shipper.ship()
        await shipper.end()
    await book_all(meter)
    other = await stack.shipper()
    other.write(exchanges(1))
    await other.ship()
    await book_all(meter)
    assert set((await stack.checkpoint()).incarnations) == {other.name}
    assert (await stack.totals())["rows"] == 37

    await shipper.ship(first=0)
    await shipper.end()
    await book_all(meter)
    assert meter.progress.looked_up == 3
    assert await stack.totals() == {"rows": 37, "events": 37, "requests": 37, "wrong": 0}


async def test_a_day_of_silence_is_a_loss_once_nothing_is_left_to_read(stack: Stack) -> None:
    """What a silent journal admitted is abandoned, but not in the first moments after an outage."""
    shipper = await stack.shipper()
    old_ms = int(time.time() * 1000) - 2 * 86_400_000
    shipper.write([make_admitted(admitted_at_ms=old_ms)], at_ms=old_ms)
    await shipper.ship()
    await book_all(await stack.meter())
    assert (await stack.totals())["rows"] == 0
    meter = await stack.meter(silence_settle_ms=0)
    await meter.step()
    await book_all(meter)
    assert await stack.totals() == {"rows": 1, "events": 1, "requests": 1, "wrong": 0}
    assert (await stack.checkpoint()).incarnations[shipper.name].ended_at_ms is not None
