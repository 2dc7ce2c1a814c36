"""The fixture of a metering stack over real servers."""

from collections.abc import AsyncIterator

import pytest
from metering_stack import Stack
from support.stores import ClickHouseDatabase, NatsServer


@pytest.fixture
async def stack(nats_server: NatsServer, clickhouse: ClickHouseDatabase) -> AsyncIterator[Stack]:
    """NATS of the test's own, and a fresh ledger."""
    await nats_server.migrate()
    stack = Stack(nats_server.url, clickhouse)
    await stack.open()
    await stack.put_price_book()
    yield stack
    await stack.close()
