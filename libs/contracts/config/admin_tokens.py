"""A named credential for the admin API."""

from typing import Literal

import msgspec

Scope = Literal["read", "write", "keys"]


class AdminToken(msgspec.Struct, frozen=True, omit_defaults=True):
    """`token_hash` is lower-case hex SHA-256 of what its holder sends. Times are Unix seconds.

    `read` sees everything, `write` changes everything, `keys` sees and changes keys and users.
    """

    id: str
    name: str
    token_hash: str
    scopes: tuple[Scope, ...]
    created_at: int
    updated_at: int
    expires_at: int | None = None
