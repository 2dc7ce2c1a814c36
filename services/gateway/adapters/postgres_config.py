"""Implements ConfigurationSource over Postgres: what changed since a revision, and who calls."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from typing import Any, Final

import asyncpg
import msgspec

from contracts.config.kinds import STRUCT_BY_KIND
from gateway.adapters.postgres import CHANNEL, connect_arguments
from gateway.configuration.fingerprint import FINGERPRINT_BITS
from gateway.configuration.items import Broken, Changes, Item
from gateway.configuration.snapshot import KINDS
from gateway.settings import GatewaySettings

log = logging.getLogger(__name__)

ROWS_A_PART: Final = 200
"""Requests are served between parts."""

_NEWEST: Final = (
    "coalesce(greatest("
    "(SELECT max(revision) FROM configuration_items),"
    " (SELECT max(revision) FROM configuration_tombstones)), 0)"
)
_ITEMS: Final = (
    "SELECT kind, id, revision, document::text FROM configuration_items"
    " WHERE revision > $1 AND kind = ANY($2::text[])"
)
_TOMBSTONES: Final = (
    "SELECT kind, id FROM configuration_tombstones WHERE revision > $1 AND kind = ANY($2::text[])"
)
_HASHED: Final = "encode(sha256(convert_to(kind || ' ' || id || ' ' || revision, 'UTF8')), 'hex')"
_FINGERPRINT: Final = (
    f"mod(coalesce(sum(('x' || left({_HASHED}, {FINGERPRINT_BITS // 4}))"
    f"::bit({FINGERPRINT_BITS})::bigint), 0), {1 << FINGERPRINT_BITS})"
)
"""The same sum as gateway.configuration.fingerprint makes."""

_decoders = {kind: msgspec.json.Decoder(STRUCT_BY_KIND[kind]) for kind in KINDS}


class PostgresConfiguration:
    """Reads the configuration for the data plane."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", settings: GatewaySettings) -> None:
        self._pool = pool
        self._settings = settings

    async def changes_since(self, revision: int) -> AsyncGenerator[Changes, None]:
        """One repeatable-read transaction, so that the parts belong together."""
        async with (
            self._pool.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            newest = await connection.fetchval(f"SELECT {_NEWEST}")
            # A database restored to an older state hands out revisions again: begin anew.
            is_full = revision == 0 or newest < revision
            since = 0 if is_full else revision
            tombstones = [] if is_full else await connection.fetch(_TOMBSTONES, since, KINDS)
            deleted = frozenset((row["kind"], row["id"]) for row in tombstones)
            cursor = await connection.cursor(_ITEMS, since, KINDS)
            is_first = True
            while True:
                rows = await cursor.fetch(ROWS_A_PART)
                if rows or is_first:
                    items, broken = read_rows(rows)
                    yield Changes(newest, items, deleted, is_full and is_first, broken)
                if len(rows) < ROWS_A_PART:
                    return
                is_first, deleted = False, frozenset()

    async def fingerprint(self) -> tuple[int, int]:
        """See ConfigurationSource."""
        row = await self._pool.fetchrow(
            f"SELECT {_NEWEST}, {_FINGERPRINT}"  # noqa: S608 - constants
            " FROM configuration_items WHERE kind = ANY($1::text[])",
            KINDS,
        )
        assert row is not None
        return int(row[0]), int(row[1])

    async def listen(self, wake: Callable[[], None]) -> Awaitable[None]:
        """A connection of its own, so that a busy pool cannot delay a revocation."""
        connection = await asyncpg.connect(**connect_arguments(self._settings))
        lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def on_lost(_: object) -> None:
            if not lost.done():
                lost.set_result(None)

        connection.add_termination_listener(on_lost)
        await connection.add_listener(CHANNEL, lambda *_: wake())

        async def until_lost() -> None:
            try:
                await lost
            finally:
                connection.remove_termination_listener(on_lost)
                if not connection.is_closed():
                    connection.terminate()

        return until_lost()


def read_rows(rows: Iterable[Iterable[Any]]) -> tuple[tuple[Item, ...], tuple[Broken, ...]]:
    """Rows (kind, id, revision, document) as values, and those that make no sense.

    The latter are not in force, whatever they were before.
    """
    items: list[Item] = []
    broken: list[Broken] = []
    for kind, item_id, revision, document in rows:
        try:
            items.append(Item(kind, item_id, revision, _decoders[kind].decode(document)))
        except msgspec.DecodeError as error:
            log.error("configuration.item_broken kind=%s id=%s error=%s", kind, item_id, error)
            broken.append(Broken(kind, item_id, revision))
    return tuple(items), tuple(broken)
