"""The configured keys, from Postgres; read-only."""

import asyncio
from typing import Final

import asyncpg

from reporting.errors import Unavailable
from reporting.ports import KeyFilter
from reporting.settings import ReportingSettings

_MATCHING: Final = """\
SELECT id AS key_id
FROM configuration_items
WHERE kind = 'key'
  AND (cardinality($1::text[]) = 0 OR id = ANY($1))
  AND (cardinality($2::text[]) = 0 OR document -> 'tags' @> to_jsonb($2::text[]))
  AND ($3 = '' OR strpos(lower(document ->> 'name'), lower($3)) > 0)
  AND ($4::boolean IS NULL OR coalesce((document ->> 'revoked')::boolean, false) = $4)
  AND ($5::bigint IS NULL OR created_at >= $5)
  AND ($6::bigint IS NULL OR created_at < $6)
ORDER BY id
LIMIT $7"""

_CONNECTIONS_MAX: Final = 2


class PostgresKeys:
    """Implements ports.KeyDirectory. Connects at the first question."""

    def __init__(self, settings: ReportingSettings) -> None:
        self._settings = settings
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._connecting = asyncio.Lock()

    async def key_ids(self, wanted: KeyFilter, rows_max: int) -> list[str]:
        """See ports.KeyDirectory."""
        if any("\x00" in text for text in (*wanted.key_ids, *wanted.tags, wanted.name)):
            # Postgres has no such texts, so no key has one; ids beside it still count.
            possible = tuple(key_id for key_id in wanted.key_ids if "\x00" not in key_id)
            if not possible or "\x00" in wanted.name + "".join(wanted.tags):
                return []
        else:
            possible = wanted.key_ids
        created = wanted.created
        try:
            async with asyncio.timeout(self._settings.report_postgres_timeout):
                pool = await self._connected()
                rows = await pool.fetch(
                    _MATCHING,
                    possible,
                    wanted.tags,
                    wanted.name,
                    wanted.revoked,
                    None if created is None else created.start_s,
                    None if created is None else created.end_s,
                    rows_max + 1,
                )
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
            raise Unavailable("the configured keys cannot be read") from error
        return [row["key_id"] for row in rows]

    async def _connected(self) -> "asyncpg.Pool[asyncpg.Record]":
        async with self._connecting:
            if self._pool is None:
                self._pool = await asyncpg.create_pool(
                    self._settings.postgres_url.reveal(),
                    min_size=0,
                    max_size=_CONNECTIONS_MAX,
                    command_timeout=float(self._settings.report_postgres_timeout),
                    server_settings={"application_name": "tollway-reporting"},
                )
            return self._pool

    async def close(self) -> None:
        """Closes the connections, if there are any."""
        if self._pool is not None:
            self._pool.terminate()
