"""Reads the tables of a BricksLLM database in Postgres, changing nothing."""

from typing import Final

import asyncpg

from gateway.adapters.postgres import UNREACHABLE

CONNECT_TIMEOUT_S: Final = 10
READ_TIMEOUT_S: Final = 600
"""Of one table: the largest is that of keys."""

_MARKS: Final = {"keys": "key_id", "provider_settings": "setting"}
"""Tables, and columns of them, without which a database is not BricksLLM's."""


class CannotRead(Exception):
    """The message says why, without a credential."""


async def read_tables(dsn: str, tables: tuple[str, ...]) -> tuple[dict[str, list[str]], list[str]]:
    """The rows of each table as JSON objects, all at one instant; and the tables that are not there.

    Columns are members, so that their order is of no importance. Raises CannotRead.
    """
    try:
        connection = await asyncpg.connect(
            dsn,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=READ_TIMEOUT_S,
            server_settings={"application_name": "tollway-import"},
        )
    except (asyncpg.PostgresError, ValueError) as error:
        raise CannotRead(f"the BricksLLM database cannot be opened: {_told(error)}") from None
    except UNREACHABLE as error:
        raise CannotRead(f"the BricksLLM database does not answer: {_told(error)}") from None
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            return await _read(connection, tables)
    except (*UNREACHABLE, asyncpg.PostgresError) as error:
        raise CannotRead(f"the BricksLLM database cannot be read: {_told(error)}") from None
    finally:
        connection.terminate()


async def _read(
    connection: "asyncpg.Connection[asyncpg.Record]", tables: tuple[str, ...]
) -> tuple[dict[str, list[str]], list[str]]:
    for table, column in _MARKS.items():
        is_there = await connection.fetchval(
            "SELECT count(*) FROM pg_attribute WHERE attrelid = to_regclass($1)"
            " AND attname = $2 AND NOT attisdropped",
            table,
            column,
        )
        if not is_there:
            raise CannotRead(f"this is no BricksLLM database: it has no {table}.{column}")
    found: dict[str, list[str]] = {}
    missing: list[str] = []
    for table in tables:
        if await connection.fetchval("SELECT to_regclass($1) IS NULL", table):
            missing.append(table)
            continue
        # The names are ours, not an operator's.
        rows = await connection.fetch(f"SELECT to_jsonb(t)::text FROM {table} AS t")  # noqa: S608
        found[table] = [row[0] for row in rows]
    return found, missing


def _told(error: BaseException) -> str:
    """A connection string may be in the text of an error about one; the server's are its own."""
    if isinstance(error, asyncpg.PostgresError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__
