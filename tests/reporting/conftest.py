"""The real app over the real engine, asked as a client asks it."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client
from litestar.testing import AsyncTestClient
from support.stores import ClickHouseDatabase

from reporting.adapters.clickhouse_ledger import ClickHouseLedger
from reporting.adapters.nats_progress import NatsProgress
from reporting.app import build_app
from reporting.settings import ReportingSettings
from runtime import logs
from runtime.settings import Duration


@pytest.fixture
def ledger_client(clickhouse: ClickHouseDatabase) -> Iterator[Client]:
    """Writes into this test's ledger."""
    client = clickhouse.client()
    yield client
    client.close()


@pytest.fixture
def settings(clickhouse: ClickHouseDatabase) -> ReportingSettings:
    """Defaults, over this test's ledger."""
    return ReportingSettings(clickhouse_url=clickhouse.url, clickhouse_database=clickhouse.database)


@asynccontextmanager
async def opened_app(settings: ReportingSettings) -> AsyncIterator[AsyncTestClient[Any]]:
    """The app over real adapters, and a client of it."""
    ledger = ClickHouseLedger(settings)
    progress = NatsProgress(settings)
    app = build_app(ledger, progress, settings, logs.silent())
    async with AsyncTestClient(app) as client:
        yield client
    await progress.close()
    ledger.close()


@pytest.fixture
async def api(settings: ReportingSettings) -> AsyncIterator[AsyncTestClient[Any]]:
    """The app, open to everybody, as on loopback without a pass."""
    async with opened_app(settings) as client:
        yield client


@pytest.fixture
async def unconnected_api() -> AsyncIterator[AsyncTestClient[Any]]:
    """The app with no server behind it: for what is refused before anybody is asked."""
    nowhere = ReportingSettings(
        clickhouse_url="http://127.0.0.1:1",
        nats_url="nats://127.0.0.1:1",
        clickhouse_connect_timeout=Duration(1),
        report_nats_timeout=Duration(1),
    )
    async with opened_app(nowhere) as client:
        yield client
