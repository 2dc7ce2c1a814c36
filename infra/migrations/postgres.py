"""Postgres: each file in one transaction, one runner at a time by an advisory lock."""

from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from infra.migrations.files import Phase, SqlFile, sql_files, still_to_apply
from infra.migrations.settings import MigrationSettings

DIRECTORY: Final = Path(__file__).parent / "postgres"
_LOCK: Final = 7_266_504_181  # any number, as long as nobody else takes it
_CONNECT_TIMEOUT_S: Final = 10.0

_APPLIED: Final = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    name text PRIMARY KEY,
    sha256 text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""

_OF_BRICKSLLM: Final = """
SELECT count(*) > 0 FROM pg_attribute
WHERE attrelid = to_regclass('keys') AND attname = 'key_id' AND NOT attisdropped
"""


class TakenDatabase(Exception):
    """Somebody else's tables are there, with names that are ours too."""


async def migrate_postgres(
    settings: MigrationSettings,
    *,
    phase: Phase = "all",
    dry_run: bool = False,
    directory: Path = DIRECTORY,
) -> list[str]:
    """The names applied now (or that would be). Creates the database when it is missing.

    Raises TakenDatabase for BricksLLM's: its settings have our names for other tables.
    """
    files = sql_files(directory, phase)
    timeout_s = float(settings.migration_timeout)
    try:
        connection = await _connect(settings.postgres_dsn(), timeout_s)
    except asyncpg.InvalidCatalogNameError:
        if dry_run:
            return [file.name for file in files]
        await _create_database(settings.postgres_dsn(), timeout_s)
        connection = await _connect(settings.postgres_dsn(), timeout_s)
    try:
        if await connection.fetchval(_OF_BRICKSLLM):
            raise TakenDatabase(
                "the database is BricksLLM's; give Tollway one of its own, and move with"
                " `tollway import bricksllm`"
            )
        if dry_run:
            return [file.name for file in still_to_apply(files, await _applied(connection))]
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
        try:
            await connection.execute(_APPLIED)
            pending = still_to_apply(files, await _applied(connection))
            for file in pending:
                await _apply(connection, file)
        finally:
            await connection.execute("SELECT pg_advisory_unlock($1)", _LOCK)
        return [file.name for file in pending]
    finally:
        await connection.close(timeout=_CONNECT_TIMEOUT_S)


async def _connect(dsn: str, timeout_s: float) -> "asyncpg.Connection[asyncpg.Record]":
    return await asyncpg.connect(dsn, timeout=_CONNECT_TIMEOUT_S, command_timeout=timeout_s)


async def _create_database(dsn: str, timeout_s: float) -> None:
    parts = urlsplit(dsn)
    name = parts.path.lstrip("/").replace('"', '""')
    connection = await _connect(urlunsplit(parts._replace(path="/postgres")), timeout_s)
    try:
        await connection.execute(f'CREATE DATABASE "{name}"')
    except (asyncpg.DuplicateDatabaseError, asyncpg.UniqueViolationError):
        pass  # another runner was quicker
    finally:
        await connection.close(timeout=_CONNECT_TIMEOUT_S)


async def _applied(connection: "asyncpg.Connection[asyncpg.Record]") -> dict[str, str]:
    if await connection.fetchval("SELECT to_regclass('schema_migrations')") is None:
        return {}
    rows = await connection.fetch("SELECT name, sha256 FROM schema_migrations")
    return {row["name"]: row["sha256"] for row in rows}


async def _apply(connection: "asyncpg.Connection[asyncpg.Record]", file: SqlFile) -> None:
    async with connection.transaction():
        await connection.execute(file.text)
        await connection.execute(
            "INSERT INTO schema_migrations (name, sha256) VALUES ($1, $2)", file.name, file.sha256
        )
