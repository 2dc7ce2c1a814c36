"""Faults at the ledger's seam: lost answers, late inserts, a killed engine, tokens without rows."""

import asyncio
import contextlib
import time
from collections.abc import Sequence

import msgspec
import pytest
from metering_ledgers import A_MONTH_MS, IN_TIME_MS, ClockAhead, HalfLedger, kept_in
from metering_proxy import HttpProxy, first_insert, is_insert
from metering_shipping import eventually, exchanges
from metering_stack import SOON, Stack, book_all
from support.servers import RunningServer

from contracts.checkpoint import encode
from metering.adapters.native_block import EntryBlock
from metering.ports import Superseded, Unavailable
from metering.protocol import PartitionMeter

pytestmark = pytest.mark.xdist_group("metering-clickhouse")


async def ship_two_months(stack: Stack, count: int, partition: int = 0) -> None:
    """Exchanges of this month and the last, so that a batch has two parts."""
    shipper = await stack.shipper(partition)
    now_ms = int(time.time() * 1000)
    for n in range(count):
        shipper.write(exchanges(1, at_ms=now_ms - (A_MONTH_MS if n % 2 else 0)))
    await shipper.ship()


async def fails(meter: PartitionMeter) -> None:
    with pytest.raises(Unavailable):
        await meter.step()


async def test_a_lost_answer_is_not_repeated_but_proved(stack: Stack) -> None:
    """The insert landed, its answer did not: one request on the wire, recovery finds all rows."""
    await ship_two_months(stack, 20)
    async with HttpProxy(stack.database.url) as proxy:
        proxy.harm = first_insert("cut")
        ledgers: list[ClockAhead] = []
        meter = await stack.meter(clickhouse_url=proxy.url, ledger=kept_in(ledgers))
        await fails(meter)
        assert sum(map(is_insert, proxy.requests)) == 1
        assert (await stack.totals())["rows"] == 20
        ledgers[0].ahead_ms = IN_TIME_MS
        await book_all(meter)
        assert sum(map(is_insert, proxy.requests)) == 1
    assert meter.progress.recoveries == 1
    assert await stack.totals() == {"rows": 20, "events": 20, "requests": 20, "wrong": 0}


async def test_an_insert_lost_on_the_way_is_filled(stack: Stack) -> None:
    """The request never arrived: recovery inserts every row under the second attempt's token."""
    await ship_two_months(stack, 20)
    async with HttpProxy(stack.database.url) as proxy:
        proxy.harm = first_insert("lose")
        meter = await stack.meter(clickhouse_url=proxy.url, **SOON)
        await fails(meter)
        assert (await stack.totals())["rows"] == 0
        await book_all(meter)
    assert await stack.totals() == {"rows": 20, "events": 20, "requests": 20, "wrong": 0}


async def test_a_zombie_insert_is_refused_after_its_deadline(stack: Stack) -> None:
    """Cancelled here, alive on the wire: it wakes when another owner has booked the batch."""
    await ship_two_months(stack, 20)
    async with HttpProxy(stack.database.url) as proxy:
        proxy.harm = first_insert("hold")
        meter = await stack.meter(clickhouse_url=proxy.url, **SOON)
        zombie = asyncio.create_task(meter.step())
        await proxy.harmed.wait()
        zombie.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await zombie
        await book_all(await stack.meter())
        assert (await stack.totals())["rows"] == 20
        proxy.release.set()
        await eventually(lambda: _has(proxy.late_answers))
        assert b"in_time" in proxy.late_answers[0]
    assert await stack.totals() == {"rows": 20, "events": 20, "requests": 20, "wrong": 0}


async def _has(answers: Sequence[bytes]) -> bool:
    return bool(answers)


async def _waits(meter: PartitionMeter) -> bool:
    return meter.progress.recoveries == 1


async def test_a_zombie_insert_within_its_deadline_is_found(stack: Stack) -> None:
    """It lands while the next owner waits: that one counts the rows and adds none."""
    await ship_two_months(stack, 20)
    async with HttpProxy(stack.database.url) as proxy:
        proxy.harm = first_insert("hold")
        zombie = asyncio.create_task((await stack.meter(clickhouse_url=proxy.url)).step())
        await proxy.harmed.wait()
        zombie.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await zombie
        ledgers: list[ClockAhead] = []
        heir = await stack.meter(ledger=kept_in(ledgers))
        booking = asyncio.create_task(book_all(heir))
        await eventually(lambda: _waits(heir))
        proxy.release.set()
        await eventually(lambda: _has(proxy.late_answers))
        assert b" 200 " in proxy.late_answers[0]
        ledgers[0].ahead_ms = IN_TIME_MS
        await booking
    assert heir.progress.recoveries == 1
    assert await stack.totals() == {"rows": 20, "events": 20, "requests": 20, "wrong": 0}


async def test_half_a_batch_is_completed(stack: Stack) -> None:
    """One part is there, the other not: only the missing rows are inserted."""
    await ship_two_months(stack, 20)
    meter = await stack.meter(ledger=HalfLedger, **SOON)
    await fails(meter)
    assert (await stack.totals())["rows"] == 10
    await book_all(meter)
    assert await stack.totals() == {"rows": 20, "events": 20, "requests": 20, "wrong": 0}


async def test_a_copy_in_the_ledger_is_taken_back(stack: Stack) -> None:
    """Rows doubled against all guards are reversed, so that the net stays one."""
    await ship_two_months(stack, 20)

    class Doubling(HalfLedger):
        async def insert(self, block: EntryBlock, token: str, insert_by_ms: int) -> None:
            if self.is_broken:
                await self._ledger.insert(block, f"{token}-again", insert_by_ms + IN_TIME_MS)
            await super().insert(block, token, insert_by_ms)

    await fails(await stack.meter(ledger=Doubling, **SOON))
    assert (await stack.totals())["rows"] == 30
    meter = await stack.meter()
    await book_all(meter)
    assert meter.progress.copies_reversed == 10
    totals = await stack.totals()
    assert totals == {"rows": 40, "events": 20, "requests": 20, "wrong": 0}


async def test_a_batch_whose_rows_would_differ_now_is_filled_by_event(stack: Stack) -> None:
    """Another build recovers: the drift is seen, nothing is lost or doubled."""
    await ship_two_months(stack, 20)
    await fails(await stack.meter(ledger=HalfLedger, **SOON))
    checkpoint = await stack.checkpoint()
    assert checkpoint.pending is not None
    drifted = msgspec.structs.replace(
        checkpoint, pending=msgspec.structs.replace(checkpoint.pending, rows_sha="other")
    )
    bucket = await stack.jetstream.key_value("CHECKPOINTS")
    await bucket.put("p.0", encode(drifted))
    meter = await stack.meter(build="other")
    await book_all(meter)
    assert meter.progress.pending_drifts == 1
    assert await stack.totals() == {"rows": 20, "events": 20, "requests": 20, "wrong": 0}
    [[builds]] = await stack.http.rows("SELECT groupUniqArray(build) FROM entries")
    assert builds == ["test"]


async def test_a_batch_keeps_the_price_book_it_began_with(stack: Stack) -> None:
    """The current book changes between tries: the manifest's one is used."""
    await ship_two_months(stack, 4)
    await fails(await stack.meter(ledger=HalfLedger, **SOON))
    books = await stack.jetstream.key_value("PRICE_BOOKS")
    old = (await books.get("current")).value
    await books.put("current", b"0" * 64)
    meter = await stack.meter()
    # Recovery needs no current book; the next batch does, and there is none.
    with contextlib.suppress(Exception):
        await meter.step()
    assert await stack.totals() == {"rows": 4, "events": 4, "requests": 4, "wrong": 0}
    [[versions, costs]] = await stack.http.rows(
        "SELECT groupUniqArray(price_book), uniqExact(cost_usd) FROM entries"
    )
    assert versions == [(old or b"").decode()]
    assert int(costs) == 1


async def test_a_stuck_batch_survives_a_window_of_others(stack: Stack) -> None:
    """One partition is stuck while others insert more blocks than the server remembers tokens of."""
    client = stack.database.client()
    client.command("ALTER TABLE entries MODIFY SETTING non_replicated_deduplication_window = 5")
    client.close()
    await ship_two_months(stack, 10)
    async with HttpProxy(stack.database.url) as proxy:
        proxy.harm = first_insert("cut")
        await fails(await stack.meter(clickhouse_url=proxy.url, **SOON))
    other = await stack.meter(1)
    for _ in range(6):
        await ship_two_months(stack, 2, partition=1)
        await book_all(other)
    await book_all(await stack.meter())
    assert await stack.totals() == {"rows": 22, "events": 22, "requests": 22, "wrong": 0}


# ---- an engine of the test's own


@pytest.mark.long_form(short=1, long=6)
async def test_an_engine_killed_during_inserts_loses_and_doubles_nothing(
    own_stack: Stack, clickhouse_server: RunningServer, rounds: int
) -> None:
    """kill -9 as soon as an insert is on its way; at each of its calls: `test_insert_seams.py`."""
    expected = 0
    for round_no in range(rounds):
        await ship_two_months(own_stack, 400)
        expected += 400
        async with HttpProxy(own_stack.database.url) as proxy:
            proxy.harm = first_insert("cut")
            meter = await own_stack.meter(clickhouse_url=proxy.url, **SOON)
            booking = asyncio.create_task(meter.step())
            await proxy.harmed.wait()
            await asyncio.sleep(0.004 * round_no)
            clickhouse_server.kill()
            with contextlib.suppress(Unavailable, Superseded):
                await booking
        clickhouse_server.start()
        await book_all(await own_stack.meter())
        totals = await own_stack.totals()
        assert totals == {
            "rows": expected,
            "events": expected,
            "requests": expected,
            "wrong": 0,
        }
