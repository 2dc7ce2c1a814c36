"""The configured keys, from Postgres; read-only."""

from typing import Final

from reporting.adapters.configuration_database import ConfigurationDatabase
from reporting.ports import KeyFilter

_MATCHING: Final = """\
SELECT id AS key_id
FROM configuration_items
WHERE kind = 'key'
  AND (cardinality($1::text[]) = 0 OR id = ANY($1))
  AND (cardinality($2::text[]) = 0 OR document -> 'tags' @> to_jsonb($2::text[]))
  AND ($3 = '' OR strpos(lower(document ->> 'name'), lower($3)) > 0)
  AND ($4::boolean IS NULL OR coalesce((document ->> 'revoked')::boolean, false) = $4)
  AND ($5::bigint IS NULL OR created_at >= $5)
  AND ($6::bigint IS NULL OR created_at < $6)
ORDER BY id
LIMIT $7"""


class PostgresKeys:
    """Implements ports.KeyDirectory."""

    def __init__(self, database: ConfigurationDatabase) -> None:
        self._database = database

    async def key_ids(self, wanted: KeyFilter, rows_max: int) -> list[str]:
        """See ports.KeyDirectory."""
        if any("\x00" in text for text in (*wanted.key_ids, *wanted.tags, wanted.name)):
            # Postgres has no such texts, so no key has one; ids beside it still count.
            possible = tuple(key_id for key_id in wanted.key_ids if "\x00" not in key_id)
            if not possible or "\x00" in wanted.name + "".join(wanted.tags):
                return []
        else:
            possible = wanted.key_ids
        created = wanted.created
        rows = await self._database.fetch(
            _MATCHING,
            possible,
            wanted.tags,
            wanted.name,
            wanted.revoked,
            None if created is None else created.start_s,
            None if created is None else created.end_s,
            rows_max + 1,
        )
        return [row["key_id"] for row in rows]
