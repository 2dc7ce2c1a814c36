"""The admin tokens, from Postgres; read-only."""

from typing import Final

import msgspec

from contracts.config.admin_tokens import AdminToken
from reporting.adapters.configuration_database import ConfigurationDatabase
from reporting.errors import Unavailable
from runtime.admin_gate import TokensUnavailable

_BY_HASH: Final = """\
SELECT document::text AS document
FROM configuration_items
WHERE kind = 'admin_token' AND document ->> 'token_hash' = $1"""


class PostgresTokens:
    """Implements admin_gate.Tokens. Asked each time, so that a deleted token is refused at once."""

    def __init__(self, database: ConfigurationDatabase) -> None:
        self._database = database

    async def find(self, token_hash: str) -> AdminToken | None:
        """See Tokens."""
        try:
            rows = await self._database.fetch(_BY_HASH, token_hash)
        except Unavailable as error:
            raise TokensUnavailable from error
        return msgspec.json.decode(rows[0]["document"], type=AdminToken) if rows else None


class NoTokens:
    """Implements admin_gate.Tokens where no database is set: the password is all there is."""

    async def find(self, _: str, /) -> AdminToken | None:
        """See Tokens."""
        return None
