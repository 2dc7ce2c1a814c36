"""What metering asks of a ledger at an opening is answered without reading all of it."""

import shutil
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from metering_shipping import eventually, exchanges
from metering_stack import Stack, book_all
from support.servers import RunningServer
from support.stores import ClickHouseDatabase

from contracts.ids import new_id, to_text, unix_ms
from infra.migrations.clickhouse import DIRECTORY, migrate_clickhouse
from infra.migrations.settings import MigrationSettings
from metering.adapters.clickhouse_ledger import ClickHouse, ClickHouseLedger
from metering.batch_ids import next_batch_id

pytestmark = pytest.mark.xdist_group("metering-clickhouse")

ROWS = 40_000
DAY_MS = 86_400_000
INCARNATION = bytes(range(16))


class Explained(ClickHouse):
    """Keeps what the server says it will read for the newest query."""

    plan = ""

    settings: Mapping[str, str] = {}
    """Of the profile that its user has."""

    async def _post(
        self, parameters: dict[str, str], content: bytes, timeout_s: float | None = None
    ) -> bytes:
        return await super()._post({**parameters, **self.settings}, content, timeout_s)

    async def rows(self, query: str, **parameters: str) -> list[list[Any]]:
        if not query.startswith("EXPLAIN") and "FROM entries" in query:
            lines = await super().rows(
                f"EXPLAIN indexes = 1, projections = 1 {query}", **parameters
            )
            self.plan = "\n".join(line[0] for line in lines)
        return await super().rows(query, **parameters)

    @property
    def granules(self) -> int:
        """Of the last step of narrowing."""
        return int(self.plan.split("Granules: ")[-1].split("/")[0].split()[0])


async def fill(clickhouse: ClickHouse, batch_id: bytes, days_ago: int, partition: int = 3) -> None:
    """One batch of many keys, so that each granule holds all of its times."""
    await clickhouse.insert(
        "INSERT INTO entries (event_id, entry_id, requests, kind, partition, batch_id, insert_by, "
        "incarnation, journal_offset, occurred_at, key_id) "
        f"SELECT generateUUIDv7(number), generateUUIDv4(number), 1, 'charge', {partition}, "
        f"'{to_text(batch_id)}', now64(3) + 600, '{to_text(INCARNATION)}', number * 100, "
        f"now64(3) - toIntervalDay({days_ago}), concat('key-', toString(number % 500)) "
        f"FROM numbers({ROWS})",
        b"",
        {"insert_deduplication_token": to_text(new_id())},
        timeout_s=60,
    )


@pytest.fixture
async def explained(clickhouse: ClickHouseDatabase) -> AsyncIterator[Explained]:
    client = _client(Explained, clickhouse.url, clickhouse.database)
    yield client
    await client.close()


def _client(cls: Any, url: str, database: str) -> Any:
    return cls(url, user="default", password="", database=database, query_timeout_s=60)


async def test_an_opening_reads_a_row_for_each_batch(explained: Explained) -> None:
    """Marks, counts and an incarnation's place come from the projection, after merges too."""
    ledger = ClickHouseLedger(explained, 3, execution_max_s=5)
    now_ms = int(time.time() * 1000)
    old, new = next_batch_id(now_ms - DAY_MS, 0), next_batch_id(now_ms, 0)
    await fill(explained, old, 1)
    await fill(explained, new, 0)
    await explained.insert("OPTIMIZE TABLE entries FINAL", b"", {}, timeout_s=60)

    marks = await ledger.marks(unix_ms(old), None)
    assert marks[INCARNATION].offset == (ROWS - 1) * 100
    assert (marks[INCARNATION].batch_ms, "(by_batch)" in explained.plan) == (now_ms, True)
    assert len(await ledger.marks(0, to_text(new))) == 1
    assert "(by_batch)" in explained.plan
    assert marks[INCARNATION].rows == ROWS
    assert await ledger.rows_between(unix_ms(old), unix_ms(new)) == (2 * ROWS, ROWS)
    assert "(by_batch)" in explained.plan
    assert await ledger.rows_between(unix_ms(old), unix_ms(new) - 1) == (ROWS, 0)
    assert await ledger.rows_between(unix_ms(old) + 1, unix_ms(new)) == (ROWS, ROWS)
    nowhere = unix_ms(new) + 1
    assert await ledger.rows_between(nowhere, nowhere) == (0, 0)
    explained.settings = {"aggregate_functions_null_for_empty": "1"}
    assert await ledger.rows_between(nowhere, nowhere) == (0, 0)
    explained.settings = {}
    mark = await ledger.mark(INCARNATION)
    assert mark is not None
    assert (mark.offset, "(by_batch)" in explained.plan) == ((ROWS - 1) * 100, True)


async def test_a_batch_and_an_event_are_looked_for_where_their_time_is(
    explained: Explained,
) -> None:
    """Parts of other days are passed over, by the times in the ids."""
    ledger = ClickHouseLedger(explained, 3, execution_max_s=5)
    now_ms = int(time.time() * 1000)
    old = next_batch_id(now_ms - 40 * DAY_MS, 0)
    await fill(explained, old, 40)
    assert len(await ledger.batch(to_text(old))) == ROWS
    assert explained.granules > 0
    assert await ledger.batch(to_text(next_batch_id(now_ms, 0))) == []
    assert explained.granules == 0
    [[booked]] = await explained.rows("SELECT toString(any(event_id)) FROM entries")
    assert len(await ledger.known([bytes.fromhex(booked.replace("-", ""))], to_text(new_id()))) == 1
    hour = 3_600_000
    assert await ledger.known([next_batch_id(now_ms + hour, 0)], to_text(new_id())) == {}
    assert explained.granules == 0
    # Beside an id without a time in it nothing is passed over.
    [[timeless]] = await explained.rows("SELECT toString(any(entry_id)) FROM entries")
    await explained.insert(
        "INSERT INTO entries (event_id, partition, batch_id, insert_by, occurred_at) "
        f"VALUES ('{timeless}', 3, '{to_text(next_batch_id(now_ms, 0))}', now64(3) + 600, now64(3))",
        b"",
        {"insert_deduplication_token": to_text(new_id())},
        timeout_s=60,
    )
    ids = [bytes.fromhex(timeless.replace("-", "")), next_batch_id(now_ms, 0)]
    assert list(await ledger.known(ids, to_text(new_id()))) == ids[:1]


async def test_batches_of_one_millisecond_are_told_apart(explained: Explained) -> None:
    """To leave one batch out is not to leave its millisecond out, which is what indexes know."""
    ledger = ClickHouseLedger(explained, 3, execution_max_s=5)
    now_ms = int(time.time() * 1000)
    one, two = next_batch_id(now_ms, 0), next_batch_id(now_ms, 0)
    await fill(explained, one, 0)
    await fill(explained, two, 0)
    await explained.insert("OPTIMIZE TABLE entries FINAL", b"", {}, timeout_s=60)
    for batch_id in (one, two):
        assert len(await ledger.marks(now_ms - 1, to_text(batch_id))) == 1
        [[event]] = await explained.rows(
            "SELECT toString(any(event_id)) FROM entries WHERE batch_id = {batch:UUID}",
            batch=to_text(batch_id),
        )
        event_id = bytes.fromhex(event.replace("-", ""))
        assert await ledger.known([event_id], to_text(batch_id)) == {}
        assert len(await ledger.known([event_id], to_text(one if batch_id == two else two))) == 1


async def test_a_ledger_that_is_there_gets_its_indexes(
    clickhouse_process: RunningServer, tmp_path: Path
) -> None:
    """Rows of before the migration are found by what it made, and say what they said."""
    first = tmp_path / "first"
    first.mkdir()
    shutil.copy(DIRECTORY / "0001_pre_ledger.sql", first)
    database = f"old_{new_id().hex()}"
    settings = MigrationSettings(
        clickhouse_url=clickhouse_process.url, clickhouse_database=database
    )
    await migrate_clickhouse(settings, directory=first)
    explained = _client(Explained, clickhouse_process.url, database)
    ledger = ClickHouseLedger(explained, 3, execution_max_s=5)
    now_ms = int(time.time() * 1000)
    ids = [next_batch_id(now_ms - days * DAY_MS, 0) for days in (70, 40, 0)]
    try:
        for batch_id, days in zip(ids, (70, 40, 0), strict=True):
            await fill(explained, batch_id, days)
        before = await ledger.marks(unix_ms(ids[0]), to_text(ids[2]))
        assert before[INCARNATION].batch_ms == unix_ms(ids[1])
        assert "by_batch" not in explained.plan
        assert (await migrate_clickhouse(settings))[0] == "0002_pre_batches_by_time.sql"
        # Books go on while it works.
        assert await ledger.marks(unix_ms(ids[0]), to_text(ids[2])) == before

        async def is_done() -> bool:
            [[waiting]] = await explained.rows(
                "SELECT count() FROM system.mutations "
                "WHERE database = currentDatabase() AND NOT is_done"
            )
            return bool(waiting == "0")

        await eventually(is_done)
        assert await ledger.marks(unix_ms(ids[0]), to_text(ids[2])) == before
        assert "(by_batch)" in explained.plan
        assert await ledger.rows_between(unix_ms(ids[0]), unix_ms(ids[2])) == (3 * ROWS, ROWS)
        assert await ledger.batch(to_text(new_id())) == []
        assert explained.granules == 0
    finally:
        await explained.insert(f"DROP DATABASE {database} SYNC", b"", {}, timeout_s=60)
        await explained.close()


async def test_a_journal_that_ended_long_ago_is_not_news_at_an_opening(stack: Stack) -> None:
    """The checkpoint has dropped it, the ledger holds it: nobody waits for it, or looks it up."""
    ended, other = await stack.shipper(), await stack.shipper()
    ended.write(exchanges(3))
    await ended.ship()
    await ended.end()
    meter = await stack.meter(keep_ended_ms=0)
    await book_all(meter)
    for _ in range(2):
        other.write(exchanges(2))
        await other.ship(first=other.shipped)
        await book_all(meter)
    assert ended.name not in (await stack.checkpoint()).incarnations
    heir = await stack.meter()
    await book_all(heir)
    assert (heir.progress.openings, heir.progress.rebuilds) == (1, 0)
