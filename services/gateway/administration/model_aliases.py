"""Model aliases: names, or patterns with `*`, that clients may use for a model."""

import time
from typing import Final

import msgspec

from contracts.config.provider_settings import ModelAlias, ProviderSetting
from contracts.ids import new_id, to_text
from gateway.administration.invalid import Conflict, Invalid, NotFound, holds_nul
from gateway.administration.store import Change, Reading

NAME_BYTES_MAX: Final = 1024
"""Of an alias, which is indexed, and of a model."""
WILDCARDS_MAX: Final = 8
"""In one pattern; it is matched on the way of a request."""
POSITION_MAX: Final = 1_000_000


class NewModelAlias(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """What a client sends to create one."""

    alias: str = ""
    model: str = ""
    setting_id: str | None = None
    position: int | None = None


class ModelAliasChange(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """What a client sends to change one; absent keeps, a settingId of "" prefers none."""

    alias: str | None = None
    model: str | None = None
    setting_id: str | None = None
    position: int | None = None


class ModelAliasWire(msgspec.Struct, frozen=True, rename="camel"):
    """One as clients see it. The lowest `position` is tried first."""

    id: str
    created_at: int
    updated_at: int
    alias: str
    model: str
    setting_id: str
    position: int


async def create(new: NewModelAlias, change: Change) -> ModelAlias:
    """Raises Invalid."""
    now = int(time.time())
    alias = ModelAlias(
        id=to_text(new_id()),
        alias=new.alias,
        model=new.model,
        setting_id=new.setting_id or "",
        position=new.position or 0,
        created_at=now,
        updated_at=now,
    )
    return await _put(alias, change)


async def patch(alias_id: str, sent: ModelAliasChange, change: Change) -> ModelAlias:
    """Raises Invalid, NotFound."""
    existing = await get(alias_id, change)
    given = {
        name: value for name, value in msgspec.structs.asdict(sent).items() if value is not None
    }
    return await _put(
        msgspec.structs.replace(existing, updated_at=int(time.time()), **given), change
    )


async def get(alias_id: str, reading: Reading) -> ModelAlias:
    """Raises NotFound."""
    alias = await reading.get(ModelAlias, alias_id)
    if alias is None:
        raise NotFound(f"model alias is not found for id: {alias_id}")
    return alias


async def find(reading: Reading) -> list[ModelAlias]:
    """All, in the order in which they are tried."""
    found = await reading.find(ModelAlias)
    return sorted(found, key=lambda alias: alias.position)


async def delete(alias_id: str, change: Change) -> None:
    """Raises NotFound."""
    if not await change.delete(ModelAlias, alias_id):
        raise NotFound(f"model alias is not found for id: {alias_id}")


def to_wire(alias: ModelAlias) -> ModelAliasWire:
    """One as clients see it."""
    return ModelAliasWire(
        id=alias.id,
        created_at=alias.created_at,
        updated_at=alias.updated_at,
        alias=alias.alias,
        model=alias.model,
        setting_id=alias.setting_id,
        position=alias.position,
    )


async def _put(alias: ModelAlias, change: Change) -> ModelAlias:
    _check(alias)
    if alias.setting_id and await change.get(ProviderSetting, alias.setting_id) is None:
        raise Invalid("provider setting is not found")
    try:
        await change.put(alias.id, alias)
    except Conflict:
        raise Invalid(f"alias {alias.alias} exists already") from None
    return alias


def _check(alias: ModelAlias) -> None:
    for name, text in (("alias", alias.alias), ("model", alias.model)):
        if not text:
            raise Invalid(f"{name} field cannot be empty")
        if len(text.encode()) > NAME_BYTES_MAX:
            raise Invalid(f"{name} is over the limit of {NAME_BYTES_MAX} bytes")
    if holds_nul([alias.alias, alias.model]):
        raise Invalid("NUL is not allowed")
    if "*" in alias.model:
        raise Invalid("model must be one model: only an alias may hold *")
    if alias.alias.count("*") > WILDCARDS_MAX:
        raise Invalid(f"alias holds more than {WILDCARDS_MAX} *")
    if not 0 <= alias.position <= POSITION_MAX:
        raise Invalid(f"position must be from 0 to {POSITION_MAX}")
