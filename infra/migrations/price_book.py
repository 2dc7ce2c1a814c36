"""The price book this build ships, put where metering finds it without Postgres.

Under its version (gzip of the canonical JSON), and `current` names the version to use. `current`
follows the build that migrated last, unless an operator has written the key `pinned`: then that
one stays. Books are immutable: what is there under a version is never written again.
"""

import gzip
from typing import Final

from nats.js.errors import KeyNotFoundError, KeyWrongLastSequenceError

from contracts import subjects
from infra.migrations.nats import connect
from infra.migrations.settings import MigrationSettings

CURRENT_KEY: Final = "current"
PINNED_KEY: Final = "pinned"


async def migrate_price_book(settings: MigrationSettings, *, dry_run: bool = False) -> list[str]:
    """What was put (or would be)."""
    from rating.compile_book import compile_book

    version, canonical_json = compile_book()
    client = await connect(settings)
    try:
        bucket = await client.jetstream(timeout=float(settings.migration_timeout)).key_value(
            subjects.PRICE_BOOKS_BUCKET
        )

        async def value(key: str) -> bytes | None:
            try:
                return (await bucket.get(key)).value
            except KeyNotFoundError:
                return None

        done = []
        if await value(version) is None:
            done.append(f"price book {version}")
            if not dry_run:
                try:
                    await bucket.create(version, gzip.compress(canonical_json, mtime=0))
                except KeyWrongLastSequenceError:
                    pass  # another runner put the same bytes
        if await value(PINNED_KEY) is None and await value(CURRENT_KEY) != version.encode():
            done.append(f"current price book {version}")
            if not dry_run:
                await bucket.put(CURRENT_KEY, version.encode())
        return done
    finally:
        await client.close()
