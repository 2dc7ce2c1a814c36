"""The reporting app over its real adapters, in this process, and a client of it."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import httpx

from reporting.adapters.clickhouse_ledger import ClickHouseLedger
from reporting.adapters.configuration_database import ConfigurationDatabase
from reporting.adapters.nats_progress import NatsProgress
from reporting.adapters.postgres_keys import PostgresKeys
from reporting.adapters.postgres_tokens import NoTokens, PostgresTokens
from reporting.app import build_app
from reporting.settings import ReportingSettings
from runtime import logs
from support import loopback

Api = httpx.AsyncClient
Opened = Callable[..., AbstractAsyncContextManager[Api]]


@asynccontextmanager
async def opened_app(settings: ReportingSettings) -> AsyncIterator[Api]:
    """Opens what the settings name, at the first question, and closes it."""
    ledger = ClickHouseLedger(settings)
    database = ConfigurationDatabase(settings) if settings.postgres_url else None
    directory = None if database is None else PostgresKeys(database)
    tokens = NoTokens() if database is None else PostgresTokens(database)
    progress = NatsProgress(settings)
    app = build_app(ledger, directory, progress, tokens, settings, logs.silent())
    transport = httpx.ASGITransport(app)
    async with loopback.AsyncClient(transport=transport, base_url="http://localhost") as client:
        yield client
    await progress.close()
    if database is not None:
        await database.close()
    ledger.close()
