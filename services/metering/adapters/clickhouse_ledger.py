"""The ledger over ClickHouse's HTTP protocol: one request an insert, never repeated by the client.

httpx is used and not clickhouse-connect, which sends an insert again by itself when the server
closes the connection; a repeat nobody knows of would turn a lost answer into an OK.
"""

from collections.abc import Sequence
from typing import Any, Final

import httpx
import msgspec

from contracts.ids import from_text, to_text
from contracts.ledger import Entry
from metering.adapters.entry_rows import ENTRY_SELECT, entry_from_row
from metering.adapters.native_block import BODY_COLUMNS, ENTRY_COLUMNS, EntryBlock, body_block
from metering.ports import BatchRow, Block, Body, Known, Mark, Unavailable

_IDS_PER_QUERY: Final = 2_000
_NOT_GRANTED: Final = "Code: 497."
_BATCH_TIME: Final = "UUIDv7ToDateTime(batch_id, 'UTC')"
_INSERT_ENTRIES: Final = f"INSERT INTO entries ({', '.join(ENTRY_COLUMNS)}) FORMAT Native"
_INSERT_BODIES: Final = f"INSERT INTO bodies ({', '.join(BODY_COLUMNS)}) FORMAT Native"


class ClickHouse:
    """One HTTP client for the process. Every error is Unavailable."""

    def __init__(
        self,
        url: str,
        *,
        user: str,
        password: str,
        database: str,
        query_timeout_s: float,
        connections_max: int = 16,
    ) -> None:
        self._database = database
        self._client = httpx.AsyncClient(
            base_url=url,
            headers={"X-ClickHouse-User": user, "X-ClickHouse-Key": password},
            timeout=httpx.Timeout(query_timeout_s, connect=5.0),
            limits=httpx.Limits(max_connections=connections_max),
            trust_env=False,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def rows(self, query: str, **parameters: str) -> list[list[Any]]:
        """A reading query's rows, as JSON values; big integers are texts. Raises Unavailable."""
        answer = await self._post(
            {
                "output_format_json_quote_64bit_integers": "1",
                **{f"param_{name}": value for name, value in parameters.items()},
            },
            f"{query} FORMAT JSONCompact".encode(),
        )
        try:
            document = msgspec.json.decode(answer)
            rows: list[list[Any]] = document["data"]
        except (msgspec.DecodeError, KeyError, TypeError) as error:
            raise Unavailable(f"ClickHouse: unreadable answer: {error}") from error
        return rows

    async def insert(
        self, statement: str, block: bytes, settings: dict[str, str], *, timeout_s: float
    ) -> None:
        """One wire request. Raises Unavailable for every outcome but OK."""
        await self._post({"query": statement, **settings}, block, timeout_s)

    async def _post(
        self, parameters: dict[str, str], content: bytes, timeout_s: float | None = None
    ) -> bytes:
        options: dict[str, Any] = {} if timeout_s is None else {"timeout": timeout_s}
        try:
            answer = await self._client.post(
                "/", params={"database": self._database, **parameters}, content=content, **options
            )
        except httpx.HTTPError as error:
            raise Unavailable(f"ClickHouse: {error!r}") from error
        # A server that fails late has sent its 200 already, and names the error afterwards.
        if answer.status_code != 200 or "x-clickhouse-exception-code" in answer.headers:
            raise Unavailable(f"ClickHouse {answer.status_code}: {answer.text[:500]}")
        return answer.content


class ClickHouseLedger:
    """metering.ports.Ledger for one partition."""

    def __init__(self, clickhouse: ClickHouse, partition: int, *, execution_max_s: float) -> None:
        self._clickhouse = clickhouse
        self._partition = partition
        self._execution_max_s = execution_max_s
        self._settings = {
            "async_insert": "0",
            "insert_deduplicate": "1",
            "max_execution_time": f"{max(1, round(execution_max_s))}",
            "min_insert_block_size_rows": "1000000",
            "min_insert_block_size_bytes": "1000000000",
        }

    async def now_ms(self) -> int:
        [[now_ms]] = await self._clickhouse.rows("SELECT toUnixTimestamp64Milli(now64(3))")
        return int(now_ms)

    def seal(self, entries: Sequence[Entry]) -> EntryBlock:
        return EntryBlock(entries)

    async def insert(self, block: Block, token: str, insert_by_ms: int) -> None:
        assert isinstance(block, EntryBlock)
        await self._clickhouse.insert(
            _INSERT_ENTRIES,
            block.native(insert_by_ms),
            {
                **self._settings,
                "insert_deduplication_token": token,
                "query_id": token.replace(":", "_"),
            },
            timeout_s=self._execution_max_s + 5,
        )

    async def insert_bodies(self, bodies: Sequence[Body]) -> None:
        if bodies:
            await self._clickhouse.insert(
                _INSERT_BODIES,
                body_block(bodies),
                # They lie apart by day, and a batch may hold many days.
                {"async_insert": "0", "max_partitions_per_insert_block": "0"},
                timeout_s=self._execution_max_s + 5,
            )

    async def batch(self, batch_id: str) -> list[BatchRow]:
        await self._refuse_while_inserting(batch_id)
        rows = await self._clickhouse.rows(
            "SELECT entry_id, any(event_id), count() FROM entries "
            "WHERE batch_id = {batch:UUID} GROUP BY entry_id",
            batch=batch_id,
        )
        return [BatchRow(from_text(entry), from_text(event), int(n)) for entry, event, n in rows]

    async def _refuse_while_inserting(self, batch_id: str) -> None:
        """The server checks deadline and execution time before it commits, not while it does: an
        engine that stands still in between, or a stuck disk, lets rows land after any limit."""
        try:
            [[running]] = await self._clickhouse.rows(
                "SELECT count() FROM system.processes "
                "WHERE startsWith(Settings['insert_deduplication_token'], {batch:String})",
                batch=batch_id,
            )
        except Unavailable as error:
            if _NOT_GRANTED in str(error):
                return
            raise
        if int(running):
            raise Unavailable(f"ClickHouse: an insert of batch {batch_id} is still running")

    async def rows_between(self, first_ms: int, last_ms: int) -> tuple[int, int]:
        [[rows, of_last]] = await self._clickhouse.rows(
            # The inner query is answered by the projection by_batch.
            "SELECT sum(n), sumIf(n, batch_time = fromUnixTimestamp64Milli({last:Int64}, 'UTC')) "  # noqa: S608 - constants
            f"FROM (SELECT {_BATCH_TIME} AS batch_time, count() AS n FROM entries "
            "WHERE partition = {partition:UInt16} "
            f"AND {_BATCH_TIME} >= fromUnixTimestamp64Milli({{first:Int64}}, 'UTC') "
            f"AND {_BATCH_TIME} <= fromUnixTimestamp64Milli({{last:Int64}}, 'UTC') "
            "GROUP BY batch_time)",
            partition=str(self._partition),
            first=str(first_ms),
            last=str(last_ms),
        )
        # Null in a profile with aggregate_functions_null_for_empty.
        return int(rows or 0), int(of_last or 0)

    async def known(self, event_ids: Sequence[bytes], excluding: str) -> dict[bytes, Known]:
        known: dict[bytes, Known] = {}
        for at in range(0, len(event_ids), _IDS_PER_QUERY):
            ids = [to_text(event_id) for event_id in event_ids[at : at + _IDS_PER_QUERY]]
            rows = await self._clickhouse.rows(
                # A copy that was taken back leaves three rows of one net effect.
                "SELECT event_id, sum(requests) > 0 AND countIf(outcome != 'abandoned') = 0 "
                "FROM entries "
                "WHERE event_id IN {events:Array(UUID)} AND batch_id != {excluding:UUID} "
                "AND run_id = {charges:UUID} GROUP BY event_id",
                events="[" + ",".join(f"'{text}'" for text in ids) + "]",
                excluding=excluding,
                charges=_NO_ID,
            )
            for text, is_abandoned in rows:
                abandoned = await self._entry(text) if int(is_abandoned) else None
                known[from_text(text)] = Known(abandoned)
        return known

    async def _entry(self, event_id: str) -> Entry:
        rows = await self._clickhouse.rows(
            f"SELECT {ENTRY_SELECT} FROM entries "  # noqa: S608 - a constant
            "WHERE event_id = {event:UUID} AND outcome = 'abandoned' AND kind = 'charge' LIMIT 1",
            event=event_id,
        )
        if not rows:
            raise Unavailable(f"entry of event {event_id} is gone between two queries")
        return entry_from_row(rows[0])

    async def marks(self, since_ms: int, excluding: str | None) -> dict[bytes, Mark]:
        later = f"{_BATCH_TIME} > fromUnixTimestamp64Milli({{since:Int64}}, 'UTC')"
        rows = await self._clickhouse.rows(
            # Answered by the projection by_batch: a row for every batch and incarnation.
            "SELECT incarnation, max(journal_offset), argMax(segment_no, journal_offset), "  # noqa: S608 - constants
            f"toUnixTimestamp64Milli(max(insert_by)), toUnixTimestamp64Milli(max({_BATCH_TIME})), count() "
            "FROM entries WHERE partition = {partition:UInt16} "
            f"AND {later if since_ms else 'true'} "
            "AND batch_id != {excluding:UUID} GROUP BY incarnation",
            partition=str(self._partition),
            excluding=excluding or _NO_ID,
            **({"since": str(since_ms)} if since_ms else {}),
        )
        return {from_text(name): Mark(*map(int, facts)) for name, *facts in rows}

    async def mark(self, incarnation: bytes) -> Mark | None:
        rows = await self._clickhouse.rows(
            "SELECT max(journal_offset), argMax(segment_no, journal_offset), count() FROM entries "
            "WHERE partition = {partition:UInt16} AND incarnation = {incarnation:UUID}",
            partition=str(self._partition),
            incarnation=to_text(incarnation),
        )
        offset, segment_no, count = rows[0]
        return Mark(int(offset), int(segment_no), 0) if int(count) else None


_NO_ID: Final = "00000000-0000-0000-0000-000000000000"
