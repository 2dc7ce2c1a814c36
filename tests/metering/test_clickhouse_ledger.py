"""Rows go into the ledger by Native blocks and come back as they were; the server refuses lateness."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from metering_events import answer, make_admitted, make_completed, whole
from support.stores import ClickHouseDatabase

from contracts.ids import new_id, to_text, unix_ms
from contracts.ledger import Entry, EntryKind, RatingStatus
from contracts.meters import Evidence
from metering.adapters.clickhouse_ledger import ClickHouse, ClickHouseLedger
from metering.adapters.entry_rows import ENTRY_SELECT, entry_from_row
from metering.adapters.native_block import _KINDS
from metering.entries import copy_reversal_of, reversal_of
from metering.pipeline import Pipeline
from metering.ports import Body, Chargeable, Closing, Manifest, Unavailable
from rating.compile_book import compile_book
from rating.price_book import PriceBook

pytestmark = pytest.mark.xdist_group("metering-clickhouse")


@pytest.fixture(scope="module")
def book() -> PriceBook:
    return PriceBook.from_json(compile_book()[1])


@pytest.fixture
async def http(clickhouse: ClickHouseDatabase) -> AsyncIterator[ClickHouse]:
    client = ClickHouse(
        clickhouse.url,
        user="default",
        password="",
        database=clickhouse.database,
        query_timeout_s=60,
    )
    yield client
    await client.close()


@pytest.fixture
def ledger(http: ClickHouse) -> ClickHouseLedger:
    return ClickHouseLedger(http, 3, execution_max_s=20)


def now_ms() -> int:
    return int(time.time() * 1000)


def a_batch(book: PriceBook) -> list[Entry]:
    """Rows of every kind: priced, unpriced, refused, abandoned, taken back."""
    at_ms = now_ms() - 5_000
    manifest = Manifest(3, new_id(), at_ms, "book-é", "build")
    events = [
        make_completed(admitted_at_ms=at_ms),
        make_completed(
            admitted_at_ms=at_ms - 40 * 86_400_000,
            response=whole(answer(2_000_000_000, 7, model="gpt-4o-ünknown")),
        ),
        make_completed(admitted_at_ms=at_ms, outcome="refused", status=429, attempts=()),
    ]
    charges = [Chargeable(event, bytes(range(16)), 2, 100 + n) for n, event in enumerate(events)]
    closings = [Closing(make_admitted(admitted_at_ms=at_ms), b"\x80" * 16, 1, 77)]
    billed = Pipeline(book).rows(charges, closings, manifest)
    rare = msgspec.structs.replace(
        billed.entries[0],
        entry_id=new_id(),
        event_id=new_id(),
        rare_quantities={"searches": 3, "images": -1},
        rare_picousd={"searches": 10**20, "images": -5},
        cost_picousd=10**25,
        custom_id="x" * 300,
        tags=(),
    )
    return [*billed.entries, rare, reversal_of(rare)]


async def test_entries_come_back_as_they_were(
    http: ClickHouse, ledger: ClickHouseLedger, book: PriceBook
) -> None:
    """Every column survives the way through Native, the server and JSON."""
    entries = a_batch(book)
    deadline_ms = now_ms() + 60_000
    await ledger.insert(ledger.seal(entries), "token-1", deadline_ms)
    rows = await http.rows(f"SELECT {ENTRY_SELECT} FROM entries")
    back = {entry.entry_id: entry for entry in map(entry_from_row, rows)}
    wanted = {e.entry_id: msgspec.structs.replace(e, insert_by_ms=deadline_ms) for e in entries}
    assert back == wanted


TEXTS = [
    "",
    "a",
    "\u00e9" * 70,
    "x" * 127,
    "x" * 128,
    "y" * 16_384,
    "\x00",
    "\n\t'\"\\",
    "\U0001f600",
]
WORD = 1 << 63
EDGES: dict[str, list[Any]] = {
    "UUID": [bytes(16), b"\xff" * 16, bytes(range(16))],
    "Bool": [True, False],
    "Int8": [-128, -1, 0, 1, 127],
    "UInt8": [0, 1, 255],
    "UInt16": [0, 1, 65_535],
    "UInt32": [0, 1, (1 << 32) - 1],
    "UInt64": [0, 1, (1 << 64) - 1],
    "Nullable(Int64)": [None, 0, 1, -1, WORD - 1, 1 - WORD],
    "Nullable(UInt64)": [None, 0, 1, (1 << 64) - 1],
    "Nullable(Decimal(38, 12))": [
        *(None, 0, 1, -1, WORD - 1, WORD, -WORD, -WORD - 1, 10**38 - 1, 1 - 10**38)
    ],
    "String": TEXTS,
    "Array(String)": [(), ("a",), ("", "\u00e9"), tuple(TEXTS[:5])],
    "Map(String, Int64)": [{}, {"a": 0}, {"": 1 - WORD, "b": WORD - 1}],
    "Map(String, Decimal(38, 12))": [{}, {"a": -1}, {"a": 10**30, "": -(10**30), "c": WORD}],
    "DateTime64(3, 'UTC')": [-1, 0, 1, 1_790_000_000_000, 9_999_999_999_999],
    "kind": list(EntryKind),
    "evidence": list(Evidence),
    "rating_status": list(RatingStatus),
    "occurred_at_ms": [1_790_000_000_000, 1_790_000_000_001, 1_755_440_000_000],
}


def a_column(rng: random.Random, field: str, kind: str, rows: int) -> list[Any]:
    """One value, all but one the same, or any."""
    values = EDGES.get(field) or EDGES[kind]
    column = [rng.choice(values)] * rows
    shape = rng.random()
    if shape < 0.2:
        column[rng.choice((0, rows // 2, -1))] = rng.choice(values)
    elif shape < 0.6:
        column = rng.choices(values, k=rows)
    return column


async def test_columns_of_any_shape_come_back_as_they_were(
    http: ClickHouse, ledger: ClickHouseLedger
) -> None:
    """Values at the edges of every type, alone, missing and mixed."""
    rng = random.Random(9)
    for number, rows in enumerate((1, 2, 3, 3, 40, 40, 300)):
        columns = {
            field: a_column(rng, field, kind, rows)
            for field, (kind, _) in zip(Entry.__struct_fields__, _KINDS, strict=True)
        }
        columns["entry_id"] = [new_id() for _ in range(rows)]
        batch_id = new_id()
        columns["batch_id"] = [batch_id] * rows
        deadline_ms = now_ms() + 60_000
        columns["insert_by_ms"] = [deadline_ms] * rows
        entries = [Entry(*values) for values in zip(*columns.values(), strict=True)]
        await ledger.insert(ledger.seal(entries), f"token-{number}", deadline_ms)
        found = await http.rows(
            f"SELECT {ENTRY_SELECT} FROM entries WHERE batch_id = {{batch:UUID}}",
            batch=to_text(batch_id),
        )
        back = {entry.entry_id: entry for entry in map(entry_from_row, found)}
        assert back == {entry.entry_id: entry for entry in entries}


async def test_the_server_refuses_an_insert_past_its_deadline(
    ledger: ClickHouseLedger, book: PriceBook
) -> None:
    """A zombie's insert is refused by the ledger's own clock and leaves no row."""
    entries = a_batch(book)
    with pytest.raises(Unavailable, match="in_time"):
        await ledger.insert(ledger.seal(entries), "token-1", await ledger.now_ms() - 1)
    assert await ledger.batch(to_text(entries[0].batch_id)) == []


async def test_a_batch_is_proved_from_the_ledger(ledger: ClickHouseLedger, book: PriceBook) -> None:
    """Counts, copies, marks and what is known of an event are read from the rows."""
    entries = a_batch(book)
    batch_id = to_text(entries[0].batch_id)
    await ledger.insert(ledger.seal(entries), "token-1", now_ms() + 60_000)
    await ledger.insert(ledger.seal(entries[:1]), "token-2", now_ms() + 60_000)
    batch_ms = unix_ms(entries[0].batch_id)
    assert await ledger.rows_between(batch_ms, batch_ms) == (len(entries) + 1, len(entries) + 1)
    rows = {row.entry_id: row for row in await ledger.batch(batch_id)}
    assert rows[entries[0].entry_id].copies == 2
    assert rows[entries[1].entry_id].event_id == entries[1].event_id

    batch_ms = unix_ms(entries[0].batch_id)
    marks = await ledger.marks(0, None)
    assert (marks[bytes(range(16))].offset, marks[bytes(range(16))].batch_ms) == (102, batch_ms)
    assert await ledger.marks(0, batch_id) == {}
    assert await ledger.marks(batch_ms - 1, None) == marks
    assert await ledger.marks(batch_ms, None) == {}
    mark = await ledger.mark(b"\x80" * 16)
    assert mark is not None
    assert (mark.offset, mark.segment_no) == (77, 1)
    assert await ledger.mark(new_id()) is None

    abandoned = next(entry for entry in entries if entry.outcome == "abandoned")
    ids = [abandoned.event_id, entries[1].event_id, new_id()]
    known = await ledger.known(ids, to_text(new_id()))
    assert known[entries[1].event_id].abandoned is None
    back = known[abandoned.event_id].abandoned
    assert back is not None
    assert back.entry_id == abandoned.entry_id
    assert len(known) == 2
    assert await ledger.known(ids, batch_id) == {}


async def test_an_abandoned_row_whose_copy_was_taken_back_is_still_abandoned(
    ledger: ClickHouseLedger, book: PriceBook
) -> None:
    """A late end must find it, or the exchange would never be charged."""
    abandoned = next(entry for entry in a_batch(book) if entry.outcome == "abandoned")
    rows = [abandoned, abandoned, copy_reversal_of(abandoned)]
    await ledger.insert(ledger.seal(rows), "token-1", now_ms() + 60_000)
    known = await ledger.known([abandoned.event_id], to_text(new_id()))
    back = known[abandoned.event_id].abandoned
    assert back is not None
    assert back.entry_id == abandoned.entry_id


async def test_a_number_beyond_its_column_is_stored_as_the_nearest_one(
    http: ClickHouse, ledger: ClickHouseLedger, book: PriceBook
) -> None:
    """One absurd event does not keep its batch out of the ledger."""
    absurd = msgspec.structs.replace(
        a_batch(book)[0], duration_us=-1, first_byte_us=1 << 70, status=70_000, attempts=300
    )
    await ledger.insert(ledger.seal([absurd]), "token-1", now_ms() + 60_000)
    rows = await http.rows("SELECT duration_us, first_byte_us, status, attempts FROM entries")
    assert [[int(number) for number in row] for row in rows] == [[0, (1 << 64) - 1, 65_535, 255]]


async def test_a_batch_is_not_judged_while_an_insert_of_it_runs(
    http: ClickHouse, ledger: ClickHouseLedger, book: PriceBook
) -> None:
    """What runs may yet land: to count now would be to fill in rows that come as well."""
    entries = a_batch(book)
    batch_id = to_text(entries[0].batch_id)
    slow = asyncio.create_task(
        http.insert(
            "INSERT INTO bodies (event_id) SELECT generateUUIDv4() FROM numbers(100) "
            "WHERE sleepEachRow(1) = 0 SETTINGS max_block_size = 1",
            b"",
            {"insert_deduplication_token": f"{batch_id}:1"},
            timeout_s=110,
        )
    )
    running = "SELECT count() FROM system.processes WHERE query LIKE 'INSERT INTO bodies%'"
    while (await http.rows(running))[0][0] == "0":
        assert not slow.done()
    with pytest.raises(Unavailable, match="still running"):
        await ledger.batch(batch_id)
    kill = f"KILL QUERY WHERE Settings['insert_deduplication_token'] = '{batch_id}:1' SYNC"
    await http.insert(kill, b"", {}, timeout_s=60)
    with pytest.raises(Unavailable, match="cancelled"):
        await slow
    assert await ledger.batch(batch_id) == []


async def test_bodies_of_many_days_go_in_one_insert(
    http: ClickHouse, ledger: ClickHouseLedger
) -> None:
    """A gateway whose clock wanders does not keep its batch out of the ledger."""
    days = [now_ms() - n * 86_400_000 for n in range(120)]
    await ledger.insert_bodies(
        [Body(new_id(), day, "key", b"a", b"b", "", True, True) for day in days]
    )
    # Older ones may have reached the end of their time by now. Half a day lies between the time
    # asked for and any body's.
    rows = await http.rows("SELECT count() FROM bodies WHERE occurred_at > now() - 39 * 43200")
    assert rows == [["20"]]


async def test_bodies_may_be_inserted_twice(http: ClickHouse, ledger: ClickHouseLedger) -> None:
    """The second insert replaces the first; any bytes are kept."""
    body = Body(new_id(), now_ms(), "key", bytes(range(256)), b"", '{"a":"ü"}', True, False)
    await ledger.insert_bodies([body])
    await ledger.insert_bodies([body])
    rows = await http.rows("SELECT hex(request), metadata, stores_request FROM bodies FINAL")
    assert rows == [[bytes(range(256)).hex().upper(), body.metadata, True]]
