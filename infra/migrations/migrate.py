"""All migrations, in the order in which a mistake costs least."""

import contextlib
from collections.abc import Iterator
from importlib import util

import asyncpg
import nats.errors
from clickhouse_connect.driver.exceptions import ClickHouseError

from infra.migrations.clickhouse import migrate_clickhouse
from infra.migrations.files import Phase
from infra.migrations.nats import migrate_nats
from infra.migrations.postgres import TakenDatabase, migrate_postgres
from infra.migrations.price_book import migrate_price_book
from infra.migrations.settings import MigrationSettings

_FAILURES = (
    OSError,
    TimeoutError,
    OverflowError,  # what a socket says of a port past 65535
    TakenDatabase,
    asyncpg.PostgresError,
    asyncpg.exceptions.ClientConfigurationError,
    ClickHouseError,
    nats.errors.Error,
)


class StoreFailed(Exception):
    """A store cannot be reached, or refuses; the text names it and the settings to look at."""


@contextlib.contextmanager
def _store(name: str, settings: str) -> Iterator[None]:
    """Raises StoreFailed for what a person mends by another setting or another server."""
    try:
        yield
    except _FAILURES as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise StoreFailed(f"{name}: {reason}; it is named by {settings}") from error


async def migrate(
    settings: MigrationSettings, *, phase: Phase = "all", dry_run: bool = False
) -> list[str]:
    """One line for everything done, or that would be done. Idempotent; two at once do no harm.

    Raises MigrationChanged and StoreFailed.
    """
    with _store("postgres", "POSTGRES_URL or POSTGRESQL_*"):
        names = await migrate_postgres(settings, phase=phase, dry_run=dry_run)
    lines = [f"postgres: {name}" for name in names]
    with _store("clickhouse", "CLICKHOUSE_*"):
        names = await migrate_clickhouse(settings, phase=phase, dry_run=dry_run)
    lines += [f"clickhouse: {name}" for name in names]
    if phase != "post":
        with _store("nats", "NATS_*"):
            made = await migrate_nats(settings, dry_run=dry_run)
            lines += [f"nats: {change}" for change in made]
            if util.find_spec("rating.compile_book") is not None and not (dry_run and made):
                changes = await migrate_price_book(settings, dry_run=dry_run)
                lines += [f"nats: {change}" for change in changes]
    return lines
