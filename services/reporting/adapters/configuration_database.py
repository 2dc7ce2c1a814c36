"""Asks the configuration database; read-only, bounded in time."""

import asyncio
from typing import Any, Final

import asyncpg

from reporting.errors import Unavailable
from reporting.settings import ReportingSettings

_CONNECTIONS_MAX: Final = 2


class ConfigurationDatabase:
    """Connects at the first question."""

    def __init__(self, settings: ReportingSettings) -> None:
        self._settings = settings
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._connecting = asyncio.Lock()

    async def fetch(self, statement: str, *arguments: Any) -> "list[asyncpg.Record]":
        """The rows. Raises Unavailable."""
        try:
            async with asyncio.timeout(self._settings.report_postgres_timeout):
                pool = await self._connected()
                return await pool.fetch(statement, *arguments)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
            raise Unavailable("the configuration cannot be read") from error

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
