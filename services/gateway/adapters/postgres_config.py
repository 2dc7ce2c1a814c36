"""Configuration in Postgres: reads by revision, writes under one lock, notifications."""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import asyncpg
import msgspec

from contracts.config import AllowedPath, ApiKey, ProviderSetting
from gateway.configuration.snapshot import Changes
from gateway.settings import GatewaySettings

log = logging.getLogger(__name__)

CHANNEL = "tollway_configuration"
_WRITE_LOCK = 0x70_11_3A_91

Connection = asyncpg.pool.PoolConnectionProxy


@asynccontextmanager
async def open_pool(
    settings: GatewaySettings, *, size_max: int = 4
) -> AsyncIterator["asyncpg.Pool[asyncpg.Record]"]:
    """A pool to the configuration database; it connects when it is first used."""
    pool = asyncpg.create_pool(
        **connect_arguments(settings), min_size=0, max_size=size_max, init=_prepare
    )
    async with pool:
        try:
            yield pool
        finally:
            # Closing politely waits for queries under way; a stop does not.
            pool.terminate()


def connect_arguments(settings: GatewaySettings) -> dict[str, Any]:
    """What asyncpg needs, from POSTGRES_URL or from BricksLLM's POSTGRESQL_*."""
    common: dict[str, Any] = {
        "timeout": 10,
        "command_timeout": float(settings.postgresql_read_time_out),
        "server_settings": {"application_name": "tollway-gateway"},
    }
    url = settings.postgres_url.reveal()
    if url:
        return {"dsn": url, **common}
    modes: dict[str, bool | ssl.SSLContext | str] = {"disable": False}
    return {
        "host": settings.postgresql_hosts.split(","),
        "port": settings.postgresql_port,
        "database": settings.postgresql_db_name,
        "user": settings.postgresql_username,
        "password": settings.postgresql_password.reveal(),
        "ssl": modes.get(settings.postgresql_ssl_mode, settings.postgresql_ssl_mode),
        **common,
    }


async def _prepare(connection: Any) -> None:
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        encoder=lambda value: msgspec.json.encode(value).decode(),
        decoder=msgspec.json.decode,
    )


_KEY_COLUMNS = (
    "key_id, key_hash, name, tags, setting_ids, allowed_paths, revoked, revoked_reason,"
    " should_log_request, should_log_response, rotation_enabled, policy_id,"
    " created_at, updated_at, revision"
)


def _digest_text(text: str) -> str:
    if len(bytes.fromhex(text)) != 32:
        raise ValueError("no SHA-256")
    return text


def _allowed_path(stored: dict[str, str]) -> AllowedPath:
    return AllowedPath(path=stored["path"], method=stored["method"].upper())


def key_of(row: Any) -> ApiKey:
    """A row of api_keys as the gateway sees it."""
    paths = row["allowed_paths"]
    return ApiKey(
        key_id=row["key_id"],
        key_hash=_digest_text(row["key_hash"]),
        name=row["name"],
        tags=tuple(row["tags"]),
        setting_ids=tuple(row["setting_ids"]),
        allowed_paths=None if paths is None else tuple(_allowed_path(path) for path in paths),
        revoked=row["revoked"],
        revoked_reason=row["revoked_reason"],
        stores_request=row["should_log_request"],
        stores_response=row["should_log_response"],
        rotation_enabled=row["rotation_enabled"],
        policy_id=row["policy_id"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        revision=row["revision"],
    )


def setting_of(row: Any) -> ProviderSetting:
    """A row of provider_settings as the gateway sees it, secrets included."""
    return ProviderSetting(
        id=row["id"],
        provider=row["provider"],
        name=row["name"],
        setting=row["setting"],
        allowed_models=tuple(row["allowed_models"]),
        cost_map=None if row["cost_map"] is None else row["cost_map"].encode(),
        usage_on_streams=row["usage_on_streams"],
        revision=row["revision"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


Row = TypeVar("Row")


def _readable(
    rows: list[Any], id_column: str, read: Callable[[Any], Row]
) -> tuple[tuple[Row, ...], frozenset[str]]:
    """Rows as values, and the ids of those that make no sense: not in force, whatever they were."""
    values: list[Row] = []
    broken: set[str] = set()
    for row in rows:
        try:
            values.append(read(row))
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            log.error(
                "configuration.row_broken %s=%s error=%s",
                id_column,
                row[id_column],
                type(error).__name__,
            )
            broken.add(row[id_column])
    return tuple(values), frozenset(broken)


class PostgresConfiguration:
    """Implements ConfigurationSource, and the writes of the admin API."""

    def __init__(self, pool: asyncpg.Pool, settings: GatewaySettings) -> None:
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
                " (SELECT max(revision) FROM api_keys),"
                " (SELECT max(revision) FROM provider_settings),"
                " (SELECT max(revision) FROM configuration_tombstones)), 0)"
            )
            # A database restored to an older state hands out revisions again: begin anew.
            is_full = revision == 0 or newest < revision
            since = 0 if is_full else revision
            keys = await connection.fetch(
                f"SELECT {_KEY_COLUMNS} FROM api_keys WHERE revision > $1",  # noqa: S608 - constant
                since,
            )
            settings = await connection.fetch(
                "SELECT * FROM provider_settings WHERE revision > $1", since
            )
            tombstones = await connection.fetch(
                "SELECT kind, id FROM configuration_tombstones WHERE revision > $1", since
            )
        readable_keys, broken_keys = _readable(keys, "key_id", key_of)
        readable_settings, broken_settings = _readable(settings, "id", setting_of)
        gone = {(row["kind"], row["id"]) for row in tombstones}
        return Changes(
            revision=newest,
            keys=readable_keys,
            settings=readable_settings,
            deleted_keys=broken_keys | {name for kind, name in gone if kind == "key"},
            deleted_settings=broken_settings | {name for kind, name in gone if kind == "setting"},
            is_full=is_full,
        )

    async def listen(self, wake: Callable[[], None]) -> Awaitable[None]:
        """A connection of its own, so that a busy pool cannot delay a revocation."""
        connection = await asyncpg.connect(**connect_arguments(self._settings))
        lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def on_lost(_: Any) -> None:
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

    @asynccontextmanager
    async def write(self) -> AsyncIterator[tuple[Connection, int]]:
        """A transaction with its revision; announced to every gateway when it commits.

        The lock makes revisions visible in the order they were given out.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", _WRITE_LOCK)
            revision = await connection.fetchval("SELECT nextval('configuration_revision')")
            yield connection, revision
            await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, str(revision))

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Connection]:
        """A connection for reading."""
        async with self._pool.acquire() as connection:
            yield connection
