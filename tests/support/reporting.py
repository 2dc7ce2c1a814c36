"""The reporting app over its real adapters, in this process, and a client of it."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import httpx

from reporting.adapters.clickhouse_ledger import ClickHouseLedger
from reporting.adapters.nats_progress import NatsProgress
from reporting.adapters.postgres_keys import PostgresKeys
from reporting.app import build_app
from reporting.settings import ReportingSettings
from runtime import logs

Api = httpx.AsyncClient
Opened = Callable[..., AbstractAsyncContextManager[Api]]


@asynccontextmanager
async def opened_app(settings: ReportingSettings) -> AsyncIterator[Api]:
    """Opens what the settings name, at the first question, and closes it."""
    ledger = ClickHouseLedger(settings)
    directory = PostgresKeys(settings) if settings.postgres_url else None
    progress = NatsProgress(settings)
    app = build_app(ledger, directory, progress, settings, logs.silent())
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://reporting") as client:
        yield client
    await progress.close()
    if directory is not None:
        await directory.close()
    ledger.close()
