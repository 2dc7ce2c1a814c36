"""All migrations, in the order in which a mistake costs least."""

from importlib import util

from infra.migrations.clickhouse import migrate_clickhouse
from infra.migrations.files import Phase
from infra.migrations.nats import migrate_nats
from infra.migrations.postgres import migrate_postgres
from infra.migrations.price_book import migrate_price_book
from infra.migrations.settings import MigrationSettings


async def migrate(
    settings: MigrationSettings, *, phase: Phase = "all", dry_run: bool = False
) -> list[str]:
    """One line for everything done, or that would be done. Idempotent; two at once do no harm.

    Raises MigrationChanged, and whatever a store that cannot be reached raises.
    """
    lines = [
        f"postgres: {name}"
        for name in await migrate_postgres(settings, phase=phase, dry_run=dry_run)
    ]
    lines += [
        f"clickhouse: {name}"
        for name in await migrate_clickhouse(settings, phase=phase, dry_run=dry_run)
    ]
    if phase != "post":
        made = await migrate_nats(settings, dry_run=dry_run)
        lines += [f"nats: {change}" for change in made]
        if util.find_spec("rating.compile_book") is not None and not (dry_run and made):
            lines += [
                f"nats: {change}" for change in await migrate_price_book(settings, dry_run=dry_run)
            ]
    return lines
