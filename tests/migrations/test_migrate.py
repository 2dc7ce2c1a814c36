"""Migrations against real servers."""

import asyncio

import asyncpg
import nats
from infra.migrations import migrate
from infra.migrations.settings import MigrationSettings
from runtime.settings import Secret

from support.servers import RunningServer
from support.stores import ClickHouseDatabase, NatsServer, PostgresDatabase


def _settings(
    nats_server: NatsServer, clickhouse: ClickHouseDatabase, postgres: PostgresDatabase
) -> MigrationSettings:
    return MigrationSettings(
        nats_url=nats_server.url,
        clickhouse_url=clickhouse.url,
        clickhouse_database=clickhouse.database,
        postgres_url=Secret(postgres.url),
        stream_bytes_max=1 << 30,
        dead_letter_bytes_max=1 << 28,
    )


async def test_a_second_run_has_nothing_to_do(
    nats_server: NatsServer, clickhouse: ClickHouseDatabase, postgres: PostgresDatabase
) -> None:
    """Everything a run made is found in place by the next."""
    settings = _settings(nats_server, clickhouse, postgres)
    first = await migrate(settings)
    assert "nats: EXCHANGES" in first
    assert await migrate(settings) == []


async def test_redis(redis_server: RunningServer) -> None:
    """x"""
    import redis.asyncio as r

    c = r.from_url(redis_server.url)
    assert await c.ping()
    await c.aclose()
