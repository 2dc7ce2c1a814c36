"""Handles of stores that are ready to use: migrated, and empty."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import clickhouse_connect
from clickhouse_connect.driver.client import Client

from infra.embedded.nats import NATS
from infra.embedded.postgres import POSTGRES
from infra.migrations.clickhouse import migrate_clickhouse
from infra.migrations.nats import migrate_nats
from infra.migrations.postgres import migrate_postgres
from infra.migrations.price_book import migrate_price_book
from infra.migrations.settings import MigrationSettings
from runtime.settings import Secret
from support.servers import RunningServer, run_apart


class NatsServer(RunningServer):
    """A NATS server; `await migrate()` makes the streams and buckets."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(NATS, data_dir)

    def migration_settings(self, **changes: Any) -> MigrationSettings:
        """Small streams on this server; `changes` are fields of MigrationSettings."""
        return MigrationSettings(
            **{"nats_url": self.url, "stream_bytes_max": 1 << 30, "dead_letter_bytes_max": 1 << 28}
            | changes
        )

    async def migrate(self, *, price_book: bool = False, **changes: Any) -> list[str]:
        """Streams and buckets; with `price_book` also the shipped book."""
        settings = self.migration_settings(**changes)
        done = await migrate_nats(settings)
        if price_book:
            done += await migrate_price_book(settings)
        return done


@dataclass(frozen=True)
class ClickHouseDatabase:
    """A migrated database. `client()` gives a new client; close it."""

    url: str
    database: str

    def client(self, **options: Any) -> Client:
        """A clickhouse-connect client without a session, on a pool of its own."""
        return clickhouse_client(self.url, self.database, **options)


def clickhouse_client(url: str, database: str = "default", **options: Any) -> Client:
    """A clickhouse-connect client without a session, on a pool of its own; close it."""
    parts = urlsplit(url)
    return clickhouse_connect.get_client(
        **{
            "host": parts.hostname,
            "port": parts.port,
            "database": database,
            "autogenerate_session_id": False,
            "dedicated_pool": True,
        }
        | options
    )


def migrated(url: str, database: str) -> ClickHouseDatabase:
    """Makes a database with every table of the migrations."""
    run_apart(
        migrate_clickhouse(MigrationSettings(clickhouse_url=url, clickhouse_database=database))
    )
    return ClickHouseDatabase(url, database)


def copied(template: ClickHouseDatabase, database: str, client: Client) -> ClickHouseDatabase:
    """Makes a database with the tables of another, without their rows: a tenth of migrating.

    `client` is the template's: making one takes as long as a table.
    """
    client.command(f"CREATE DATABASE {database}")
    for (table,) in client.query("SHOW TABLES").result_rows:
        client.command(f"CREATE TABLE {database}.{table} AS {template.database}.{table}")
    client.command(
        f"INSERT INTO {database}.schema_migrations SELECT * FROM {template.database}.schema_migrations"
    )
    return ClickHouseDatabase(template.url, database)


@dataclass(frozen=True)
class PostgresDatabase:
    """A migrated database; connect with `url`."""

    url: str
    database: str


def migrated_postgres(data_dir: Path) -> RunningServer:
    """A started Postgres, its `/tollway` migrated, that waits for no disk and vacuums nothing.

    It may be stopped and killed; only a machine that loses power would take what it has answered.
    A worker of the vacuum's in a database would keep it from being copied.
    """
    server = RunningServer(POSTGRES, data_dir)
    server.start()
    run_apart(_quicken(server.url))
    run_apart(migrate_postgres(MigrationSettings(postgres_url=Secret(server.url))))
    return server


async def _quicken(url: str) -> None:
    parts = urlsplit(url)
    connection = await asyncpg.connect(urlunsplit(parts._replace(path="/postgres")), timeout=60)
    try:
        await connection.execute("ALTER SYSTEM SET fsync = off")
        await connection.execute("ALTER SYSTEM SET autovacuum = off")
        await connection.execute("SELECT pg_reload_conf()")
    finally:
        await connection.close()
