"""Admin tokens: named credentials of the admin API, with scopes, told once and stored as a hash."""

import time

import msgspec

from contracts.config.admin_tokens import SCOPES, AdminToken, Scope, hash_token, new_token_text
from contracts.ids import new_id, to_text
from gateway.administration.invalid import Conflict, Invalid, NotFound, holds_nul
from gateway.administration.limit_rules import TIME_MAX_S
from gateway.administration.store import Change, Query, Reading

NAME_BYTES_MAX = 256
"""It is in every line of the audit log that the token wrote."""


class NewAdminToken(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """What a client sends to create one. `expiresAt` is in Unix seconds; without it: never."""

    name: str = ""
    scopes: list[str] | None = None
    expires_at: int | None = None


class AdminTokenWire(msgspec.Struct, frozen=True, rename="camel"):
    """One as clients see it. `token` is shown once, when it is made."""

    id: str
    name: str
    scopes: tuple[Scope, ...]
    created_at: int
    updated_at: int
    expires_at: int | None
    token: str | msgspec.UnsetType = msgspec.UNSET


async def create(new: NewAdminToken, change: Change) -> tuple[AdminToken, str]:
    """The token and its text. Raises Invalid, Conflict when the name is taken."""
    now = int(time.time())
    scopes = new.scopes or []
    if not new.name or len(new.name.encode()) > NAME_BYTES_MAX or holds_nul([new.name]):
        raise Invalid(f"name must have 1 to {NAME_BYTES_MAX} bytes and no NUL")
    if not scopes or any(scope not in SCOPES for scope in scopes):
        raise Invalid(f"scopes must be some of {', '.join(SCOPES)}")
    if new.expires_at is not None and not now < new.expires_at <= TIME_MAX_S:
        raise Invalid("expiresAt must be Unix seconds in the future")
    if await change.count(AdminToken, Query(holds={"name": new.name})):
        # The audit log tells tokens apart by name.
        raise Conflict(f"name {new.name} is taken")
    text = new_token_text()
    token = AdminToken(
        id=to_text(new_id()),
        name=new.name,
        token_hash=hash_token(text),
        scopes=tuple(scope for scope in SCOPES if scope in scopes),
        created_at=now,
        updated_at=now,
        expires_at=new.expires_at,
    )
    await change.put(token.id, token)
    return token, text


async def delete(token_id: str, change: Change) -> None:
    """Its holder is refused from now on. Raises NotFound."""
    if not await change.delete(AdminToken, token_id):
        raise NotFound(f"admin token is not found for id: {token_id}")


async def find(token_hash: str, reading: Reading) -> AdminToken | None:
    """The token with this hash, expired or not."""
    found = await reading.find(AdminToken, Query(holds={"token_hash": token_hash}))
    return found[0] if found else None


def to_wire(token: AdminToken, text: str | None = None) -> AdminTokenWire:
    """As clients see it; `text` only in the answer that made it."""
    return AdminTokenWire(
        id=token.id,
        name=token.name,
        scopes=token.scopes,
        created_at=token.created_at,
        updated_at=token.updated_at,
        expires_at=token.expires_at,
        token=msgspec.UNSET if text is None else text,
    )
