"""ClickHouse: no transactions, so every statement must be harmless when repeated."""

import asyncio
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

from infra.migrations.files import Phase, SqlFile, sql_files, statements, still_to_apply
from infra.migrations.settings import MigrationSettings

DIRECTORY: Final = Path(__file__).parent / "clickhouse"
_CONNECT_TIMEOUT_S: Final = 10
_UNKNOWN_DATABASE: Final = 81
_UNKNOWN_TABLE: Final = 60

_APPLIED: Final = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    name String,
    sha256 String,
    applied_at DateTime64(3, 'UTC') DEFAULT now64(3)
) ENGINE = ReplacingMergeTree ORDER BY name
"""


async def migrate_clickhouse(
    settings: MigrationSettings,
    *,
    phase: Phase = "all",
    dry_run: bool = False,
    directory: Path = DIRECTORY,
) -> list[str]:
    """The names applied now (or that would be). Two runners at once apply the same twice."""
    files = sql_files(directory, phase)
    return await asyncio.to_thread(_migrate, settings, files, dry_run=dry_run)


def _client(settings: MigrationSettings, database: str) -> Client:
    parts = urlsplit(settings.clickhouse_url)
    return clickhouse_connect.get_client(
        host=parts.hostname or "127.0.0.1",
        port=parts.port or (8443 if parts.scheme == "https" else 8123),
        secure=parts.scheme == "https",
        username=settings.clickhouse_user,
        password=settings.clickhouse_password.reveal(),
        database=database,
        connect_timeout=_CONNECT_TIMEOUT_S,
        send_receive_timeout=int(settings.migration_timeout),
        autogenerate_session_id=False,
        dedicated_pool=True,
    )


def _migrate(settings: MigrationSettings, files: list[SqlFile], *, dry_run: bool) -> list[str]:
    client = _client(settings, "default")
    try:
        # Atomic by name: the embedded engine's default kind of database refuses some statements.
        name = settings.clickhouse_database.replace("`", "")
        if not dry_run:
            client.command(f"CREATE DATABASE IF NOT EXISTS `{name}` ENGINE = Atomic")
        client.database = name
        try:
            if not dry_run:
                client.command(_APPLIED)
            rows = client.query("SELECT name, sha256 FROM schema_migrations FINAL").result_rows
        except DatabaseError as error:
            if error.code not in (_UNKNOWN_DATABASE, _UNKNOWN_TABLE) or not dry_run:
                raise
            rows = []
        pending = still_to_apply(files, {row[0]: row[1] for row in rows})
        if not dry_run:
            for file in pending:
                for statement in statements(file.text):
                    client.command(statement)
                client.insert(
                    "schema_migrations",
                    [[file.name, file.sha256]],
                    column_names=["name", "sha256"],
                    column_type_names=["String", "String"],
                )
        return [file.name for file in pending]
    finally:
        client.close()
