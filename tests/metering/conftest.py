"""The fixture of a metering stack over real servers."""

from collections.abc import AsyncIterator

import pytest
from metering_stack import Stack
from support.servers import RunningServer
from support.stores import ClickHouseDatabase, NatsServer, migrated


@pytest.fixture
async def stack(nats_server: NatsServer, clickhouse: ClickHouseDatabase) -> AsyncIterator[Stack]:
    """NATS of the test's own, and a fresh ledger."""
    await nats_server.migrate()
    stack = Stack(nats_server.url, clickhouse)
    await stack.open()
    await stack.put_price_book()
    yield stack
    await stack.close()


@pytest.fixture
async def own_stack(
    nats_server: NatsServer, clickhouse_server: RunningServer
) -> AsyncIterator[Stack]:
    """A stack whose engine may be killed."""
    await nats_server.migrate()
    stack = Stack(nats_server.url, migrated(clickhouse_server.url, "tollway"))
    await stack.open()
    await stack.put_price_book()
    yield stack
    await stack.close()
