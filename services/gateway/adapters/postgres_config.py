"""Implements ConfigurationSource over Postgres: what changed since a revision, and who calls."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import asyncpg
import msgspec

from contracts.config.kinds import STRUCT_BY_KIND
from gateway.adapters.postgres import CHANNEL, connect_arguments
from gateway.configuration.items import Changes, Item
from gateway.settings import GatewaySettings

log = logging.getLogger(__name__)

_decoders = {kind: msgspec.json.Decoder(struct) for kind, struct in STRUCT_BY_KIND.items()}


class PostgresConfiguration:
    """Reads the configuration for the data plane."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", settings: GatewaySettings) -> None:
        self._pool = pool
        self._settings = settings

    async def changes_since(self, revision: int) -> Changes:
        """One repeatable-read transaction, so that the parts belong together."""
        async with (
            self._pool.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            newest = await connection.fetchval(
                "SELECT coalesce(greatest("
                " (SELECT max(revision) FROM configuration_items),"
                " (SELECT max(revision) FROM configuration_tombstones)), 0)"
            )
            # A database restored to an older state hands out revisions again: begin anew.
            is_full = revision == 0 or newest < revision
            since = 0 if is_full else revision
            rows = await connection.fetch(
                "SELECT kind, id, revision, document::text AS document FROM configuration_items"
                " WHERE revision > $1",
                since,
            )
            tombstones = await connection.fetch(
                "SELECT kind, id FROM configuration_tombstones WHERE revision > $1", since
            )
        items, broken = await asyncio.to_thread(read_rows, rows)
        return Changes(
            revision=newest,
            items=items,
            deleted=frozenset((row["kind"], row["id"]) for row in tombstones) | broken,
            is_full=is_full,
        )

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


def read_rows(
    rows: Iterable[Iterable[Any]],
) -> tuple[tuple[Item, ...], frozenset[tuple[str, str]]]:
    """Rows (kind, id, revision, document) as values, and those that make no sense.

    The latter are not in force, whatever they were before.
    """
    items: list[Item] = []
    broken: set[tuple[str, str]] = set()
    for kind, item_id, revision, document in rows:
        decoder = _decoders.get(kind)
        if decoder is None:
            continue  # A newer gateway's kind of thing.
        try:
            items.append(Item(kind, item_id, revision, decoder.decode(document)))
        except msgspec.DecodeError as error:
            log.error("configuration.item_broken kind=%s id=%s error=%s", kind, item_id, error)
            broken.add((kind, item_id))
    return tuple(items), frozenset(broken)
