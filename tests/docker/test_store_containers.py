"""Migrations bring NATS, Postgres and ClickHouse servers proper to this version, twice."""

import pytest

from infra.migrations.nats import migrate_nats
from infra.migrations.postgres import migrate_postgres
from infra.migrations.settings import MigrationSettings
from runtime.settings import Secret


@pytest.mark.docker
async def test_nats_container_is_migrated_twice() -> None:
    """Streams and buckets are made once and found again."""
    from testcontainers.community.nats import NatsContainer

    with NatsContainer("nats:2.15-alpine", jetstream=True) as container:
        settings = MigrationSettings(nats_url=container.nats_uri(), stream_bytes_max=1 << 28)

        assert await migrate_nats(settings)
        assert not await migrate_nats(settings)


@pytest.mark.docker
async def test_postgres_container_is_migrated_twice() -> None:
    """Tables are made once and found again."""
    from testcontainers.community.postgres import PostgresContainer

    with PostgresContainer("postgres:18-alpine") as container:
        url = Secret(container.get_connection_url(driver=None))
        settings = MigrationSettings(postgres_url=url)

        assert await migrate_postgres(settings)
        assert not await migrate_postgres(settings)
