"""The real app over the real engine, asked as a client asks it."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import msgspec
import pytest
from clickhouse_connect.driver.client import Client
from support.reporting import Api, Opened, opened_app
from support.stores import ClickHouseDatabase

from reporting.settings import ReportingSettings
from runtime.settings import Duration


@pytest.fixture
def ledger_client(clickhouse: ClickHouseDatabase) -> Iterator[Client]:
    """Writes into this test's ledger."""
    client = clickhouse.client()
    yield client
    client.close()


@pytest.fixture
def settings(clickhouse: ClickHouseDatabase) -> ReportingSettings:
    """Defaults, over this test's ledger, with time for a store that stalls."""
    return ReportingSettings(
        clickhouse_url=clickhouse.url,
        clickhouse_database=clickhouse.database,
        report_postgres_timeout=Duration(60),
    )


@pytest.fixture
def opened(settings: ReportingSettings) -> Opened:
    """The app with other settings than the defaults."""

    def open_with(**changes: Any) -> AbstractAsyncContextManager[Api]:
        return opened_app(msgspec.structs.replace(settings, **changes))

    return open_with


@pytest.fixture
async def api(settings: ReportingSettings) -> AsyncIterator[Api]:
    """The app, open to everybody, as on loopback without a pass."""
    async with opened_app(settings) as client:
        yield client


@pytest.fixture
async def unconnected_api() -> AsyncIterator[Api]:
    """The app with no server behind it: for what is refused before anybody is asked."""
    nowhere = ReportingSettings(
        clickhouse_url="http://127.0.0.1:1",
        nats_url="nats://127.0.0.1:1",
        clickhouse_connect_timeout=Duration(1),
        report_nats_timeout=Duration(1),
    )
    async with opened_app(nowhere) as client:
        yield client
