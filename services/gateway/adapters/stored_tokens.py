"""Implements the door's Tokens over the administration's Store."""

from contracts.config.admin_tokens import AdminToken
from gateway.administration import admin_tokens
from gateway.administration.store import Store, StoreUnavailable
from runtime.admin_gate import TokensUnavailable


class StoredTokens:
    """Implements Tokens. Asked each time, so that a deleted token is refused at once."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def find(self, token_hash: str, /) -> AdminToken | None:
        """See Tokens."""
        try:
            async with self._store.read() as reading:
                return await admin_tokens.find(token_hash, reading)
        except StoreUnavailable as error:
            raise TokensUnavailable from error
