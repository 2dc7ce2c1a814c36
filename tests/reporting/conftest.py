"""The real app over the real engine, asked as a client asks it."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import clickhouse_connect
import pytest
from clickhouse_connect.driver.client import Client
from litestar.testing import AsyncTestClient

from reporting.adapters.clickhouse_ledger import ClickHouseLedger
from reporting.adapters.nats_progress import NatsProgress
from reporting.app import build_app
from reporting.settings import ReportingSettings
from runtime import logs


@pytest.fixture
def ledger_client(clickhouse: Any) -> Iterator[Client]:
    """Writes into this test's ledger."""
    client = clickhouse_connect.get_client(
        dsn=clickhouse.url, database=clickhouse.database, autogenerate_session_id=False
    )
    yield client
    client.close()


@pytest.fixture
def settings(clickhouse: Any) -> ReportingSettings:
    """Defaults, over this test's ledger."""
    return ReportingSettings(clickhouse_url=clickhouse.url, clickhouse_database=clickhouse.database)


@pytest.fixture
async def api(settings: ReportingSettings) -> AsyncIterator[AsyncTestClient[Any]]:
    """The app, open to everybody, as on loopback without a pass."""
    ledger = ClickHouseLedger(settings)
    progress = NatsProgress(settings)
    app = build_app(ledger, progress, settings, logs.silent())
    async with AsyncTestClient(app) as client:
        yield client
    await progress.close()
    ledger.close()
