"""Connections to the configuration database."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from gateway.settings import GatewaySettings

CHANNEL = "tollway_configuration"

Connection = asyncpg.pool.PoolConnectionProxy

UNREACHABLE = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # The server left between two messages.
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # It stops, or has not come up yet.
    asyncpg.InsufficientResourcesError,  # Connections, memory or disk are used up.
    asyncpg.ReadOnlySQLTransactionError,  # A standby.
)
"""What a database that cannot be asked, or not at the moment, raises."""


@asynccontextmanager
async def open_pool(
    settings: GatewaySettings, *, size_max: int = 4, statement_timeout_s: float | None = None
) -> AsyncIterator["asyncpg.Pool[asyncpg.Record]"]:
    """A pool to the configuration database; it connects when it is first used.

    `statement_timeout_s` is for those who cannot wait as long as POSTGRESQL_READ_TIME_OUT.
    """
    arguments = connect_arguments(settings)
    if statement_timeout_s is not None:
        arguments["command_timeout"] = min(statement_timeout_s, arguments["command_timeout"])
    pool = asyncpg.create_pool(**arguments, min_size=0, max_size=size_max)
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
