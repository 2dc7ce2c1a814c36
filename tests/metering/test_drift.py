"""A batch that one build began and another one finishes: every event is there once, or put aside."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
from metering_ledgers import A_MONTH_MS, ClockAhead, EmptyLedger, HalfLedger, WholeLedger
from metering_shipping import exchanges
from metering_stack import SOON, Stack, book_all

import metering.settling
from contracts.exchange import Event, ExchangeCompleted
from contracts.ids import new_id
from contracts.ledger import Entry
from contracts.subjects import CHECKPOINTS_BUCKET, DEAD_LETTERS_STREAM, checkpoint_key
from metering.filling import Filling
from metering.ports import Billed, Biller, Billers, Chargeable, Closing, Manifest, Unavailable

pytestmark = pytest.mark.xdist_group("metering-clickhouse")

EVENTS = 6
DAY_MS = 86_400_000

Rows = Callable[[list[Entry]], list[Entry]]


class OtherBillers:
    """The billers of a build that makes other rows of the same events."""

    def __init__(self, billers: Billers, rows: Rows) -> None:
        self._billers = billers
        self._rows = rows

    async def current(self) -> str:
        return await self._billers.current()

    async def load(self, price_book: str) -> "OtherBiller":
        return OtherBiller(await self._billers.load(price_book), self._rows)


class OtherBiller:
    def __init__(self, biller: Biller, rows: Rows) -> None:
        self._biller = biller
        self._rows = rows

    def rows(
        self, charges: Sequence[Chargeable], closings: Sequence[Closing], manifest: Manifest
    ) -> Billed:
        billed = self._biller.rows(charges, closings, manifest)
        return msgspec.structs.replace(billed, entries=self._rows(billed.entries))


def _other_ids(entries: list[Entry]) -> list[Entry]:
    return [msgspec.structs.replace(entry, entry_id=new_id()) for entry in entries]


def _other_values(entries: list[Entry]) -> list[Entry]:
    return [
        msgspec.structs.replace(entry, model_served="renamed", cost_picousd=1, input_tokens=9)
        for entry in entries
    ]


def _more_rows(entries: list[Entry]) -> list[Entry]:
    """It bills an earlier attempt too, under the id that the other one gave to the answer."""
    further = [msgspec.structs.replace(entry, entry_id=new_id(), requests=0) for entry in entries]
    return [row for pair in zip(entries, further, strict=True) for row in pair]


def _another_order(entries: list[Entry]) -> list[Entry]:
    return entries[::-1]


BUILDS: dict[str, tuple[Rows, dict[str, Any]]] = {
    "other ids": (_other_ids, {}),
    "other values": (_other_values, {}),
    "more rows": (_more_rows, {}),
    "another order": (_another_order, {}),
    "smaller batches": (list, {"rows_max": 3, "bytes_max": 1_000}),
}
Cases = Sequence[tuple[type[HalfLedger], str]]
CASES: Cases = [
    *((HalfLedger, name) for name in BUILDS),
    (EmptyLedger, "other ids"),
    (WholeLedger, "other ids"),
    (EmptyLedger, "smaller batches"),
]


async def ship(stack: Stack, partition: int, count: int = EVENTS, **facts: Any) -> None:
    """Exchanges of this month and the last in several parcels: a batch has two parts."""
    shipper = await stack.shipper(partition)
    now_ms = int(time.time() * 1000)
    for n in range(count):
        shipper.write(exchanges(1, at_ms=now_ms - (A_MONTH_MS if n % 2 else 0), **facts))
    await shipper.ship(records_per_parcel=4)


async def begin(stack: Stack, partition: int, **options: Any) -> None:
    """A batch is pending, of the build "test"."""
    meter = await stack.meter(partition, **SOON, **options)
    with pytest.raises(Unavailable):
        await meter.step()
    assert (await stack.checkpoint(partition)).pending is not None


async def finish_each(stack: Stack, cases: Cases) -> set[str]:
    """Each batch by the other build; the names of those whose rows differed."""

    async def finish(number: int, name: str) -> bool:
        rows, limits = BUILDS[name]
        heir = await stack.meter(
            number,
            build="other",
            billers=lambda billers: OtherBillers(billers, rows),
            **limits,
        )
        await book_all(heir)
        return heir.progress.pending_drifts > 0

    numbered = [(number, name) for number, (_, name) in enumerate(cases)]
    are_drifted = await asyncio.gather(*(finish(number, name) for number, name in numbered))
    return {name for (_, name), is_drifted in zip(numbered, are_drifted, strict=True) if is_drifted}


async def begin_each(stack: Stack, cases: Cases) -> None:
    for number, (landed, _) in enumerate(cases):
        await ship(stack, number)
        await begin(stack, number, ledger=landed)
    # A later release has migrated in between.
    client = stack.database.client()
    client.command("ALTER TABLE entries ADD COLUMN region LowCardinality(String) DEFAULT 'eu'")
    client.close()


async def wrong_cases(stack: Stack, cases: Cases) -> list[str]:
    """The cases whose events are not all there with net effect one."""
    rows = await stack.http.rows(
        "SELECT partition, count(), sum(r), countIf(r != 1) FROM "
        "(SELECT partition, sum(requests) AS r FROM entries GROUP BY partition, event_id) "
        "GROUP BY partition"
    )
    found = {int(number): [int(n) for n in facts] for number, *facts in rows}
    return [
        f"{landed.__name__}, {name}: {found.get(number)}"
        for number, (landed, name) in enumerate(cases)
        if found.get(number) != [EVENTS, EVENTS, 0]
    ]


async def test_a_batch_finished_by_another_build_nets_to_one_an_event(stack: Stack) -> None:
    """Whatever had landed, and whatever rows the other one makes: ids, values, order, number."""
    await begin_each(stack, CASES)
    drifted = await finish_each(stack, CASES)
    assert not await wrong_cases(stack, CASES)
    assert drifted == BUILDS.keys() - {"smaller batches"}
    # What a build has booked is left as it is.
    [[renamed]] = await stack.http.rows(
        "SELECT count() FROM entries WHERE model_served = 'renamed'"
    )
    assert int(renamed) == EVENTS // 2


async def test_without_the_digest_of_the_rows_another_build_doubles(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same has teeth: told by their ids alone, rows of other ids are inserted beside the first."""
    fill = Filling.fill

    async def undrifted(self: Filling, *arguments: Any, is_drifted: bool) -> int:
        return await fill(self, *arguments, is_drifted=False)

    monkeypatch.setattr(Filling, "fill", undrifted)
    cases: Cases = [(HalfLedger, "other ids"), (HalfLedger, "other values")]
    await begin_each(stack, cases)
    await finish_each(stack, cases)
    doubled = f"HalfLedger, other ids: {[EVENTS, EVENTS + EVENTS // 2, EVENTS // 2]}"
    assert await wrong_cases(stack, cases) == [doubled]


NEW_PATH = "/v1/of-a-later-version"


def _reads_old_only(payload: bytes) -> Event:
    event = _decode(payload)
    if isinstance(event, ExchangeCompleted) and event.call.path == NEW_PATH:
        raise msgspec.ValidationError("unknown tag")
    return event


_decode = metering.settling.decode


async def ship_later_version(stack: Stack) -> None:
    """Two exchanges whose ends only a newer build can read."""
    end = exchanges(1)[1]
    assert isinstance(end, ExchangeCompleted)
    await ship(stack, 0, 2, call=msgspec.structs.replace(end.call, path=NEW_PATH))


async def letters(stack: Stack) -> int:
    return (await stack.jetstream.stream_info(DEAD_LETTERS_STREAM)).state.messages


async def test_what_the_other_build_cannot_read_is_put_aside_and_booked_after_a_resync(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older build finishes what a newer one began: no event is dropped without a word."""
    await ship(stack, 0)
    await ship_later_version(stack)
    await begin(stack, 0, ledger=EmptyLedger)
    monkeypatch.setattr(metering.settling, "decode", _reads_old_only)
    heir = await stack.meter(build="older")
    await book_all(heir)
    assert heir.progress.pending_drifts == 1
    assert await letters(stack) == 2
    # One of the two was admitted a month ago: without an end that counts, it is abandoned.
    assert (await stack.totals())["rows"] == EVENTS + 1

    # The newer build is back. Two operators do what is to be done with dead letters.
    monkeypatch.setattr(metering.settling, "decode", _decode)
    for _ in range(2):
        bucket = await stack.jetstream.key_value(CHECKPOINTS_BUCKET)
        await bucket.delete(checkpoint_key(0))
        await book_all(await stack.meter(**SOON))
    wanted = EVENTS + 2
    totals = await stack.totals()
    assert totals == {"rows": wanted + 2, "events": wanted, "requests": wanted, "wrong": 0}
    assert await letters(stack) == 2


async def test_what_only_the_other_build_can_read_is_booked_beside_its_dead_letter(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A newer build finishes what an older one began."""
    await ship(stack, 0)
    await ship_later_version(stack)
    monkeypatch.setattr(metering.settling, "decode", _reads_old_only)
    await begin(stack, 0, ledger=HalfLedger)
    monkeypatch.setattr(metering.settling, "decode", _decode)
    await book_all(await stack.meter())
    assert await letters(stack) == 2
    wanted = EVENTS + 2
    assert await stack.totals() == {
        "rows": wanted,
        "events": wanted,
        "requests": wanted,
        "wrong": 0,
    }


async def test_a_batch_begun_before_midnight_is_finished_as_of_the_day_before(stack: Stack) -> None:
    """Nothing of a row depends on the hour of the try: no drift, one booking time, all bodies."""
    now_ms = int(time.time() * 1000)
    midnight_ms = now_ms - now_ms % DAY_MS + DAY_MS
    before_ms, behind_ms = (midnight_ms - now_ms + each for each in (-600_000, 600_000))
    shipper = await stack.shipper()
    for offset_ms in (-200, 0, 200):
        shipper.write(exchanges(2, at_ms=midnight_ms + offset_ms))
    await shipper.ship()
    await begin(stack, 0, ledger=lambda ledger: ClockAhead(HalfLedger(ledger), before_ms))
    pending = (await stack.checkpoint()).pending
    assert pending is not None
    assert pending.booked_at_ms < midnight_ms
    heir = await stack.meter(ledger=lambda ledger: ClockAhead(ledger, behind_ms))
    await book_all(heir)
    assert heir.progress.pending_drifts == 0
    assert await stack.totals() == {"rows": 6, "events": 6, "requests": 6, "wrong": 0}
    booked = await stack.http.rows("SELECT DISTINCT toUnixTimestamp64Milli(booked_at) FROM entries")
    assert [int(at_ms) for [at_ms] in booked] == [pending.booked_at_ms]
    bodies = await stack.http.rows(
        "SELECT toDate(occurred_at), uniqExact(event_id) FROM bodies GROUP BY 1 ORDER BY 1"
    )
    assert [int(count) for _, count in bodies] == [2, 4]
