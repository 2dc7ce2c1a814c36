"""Forward-only migrations of the three stores: Postgres, ClickHouse, NATS.

Enters: settings. Leaves: schemas, streams and buckets as this build wants them. Never: a way back.
Everything is idempotent and may run twice at once. An SQL file that was applied is never edited;
a changed one stops the run. Order by name: `NNNN_pre_*.sql` may run while the old build still
serves, `NNNN_post_*.sql` only after it is gone (`--phase`).
"""

from infra.migrations.migrate import migrate

__all__ = ["migrate"]
