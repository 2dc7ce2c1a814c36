"""Users as clients send and see them."""

from decimal import Decimal

import msgspec

from contracts.config.users import User
from gateway.administration.limit_rules import NewAllowedPath
from gateway.administration.wire import Number, number


class NewUser(msgspec.Struct, rename="camel"):
    """What a client sends to create one. Money keeps its decimal text."""

    name: str = ""
    user_id: str = ""
    tags: list[str] | None = None
    key_ids: list[str] | None = None
    cost_limit_in_usd: Decimal = Decimal(0)
    cost_limit_in_usd_over_time: Decimal = Decimal(0)
    cost_limit_in_usd_unit: str = ""
    rate_limit_over_time: int = 0
    rate_limit_unit: str = ""
    ttl: str = ""
    allowed_paths: list[NewAllowedPath] | None = None
    allowed_models: list[str] | None = None


class UserChange(msgspec.Struct, rename="camel"):
    """What a client sends to change one: what is absent stays, an empty list clears."""

    name: str | None = None
    key_ids: list[str] | None = None
    revoked: bool | None = None
    revoked_reason: str | None = None
    cost_limit_in_usd: Decimal | None = None
    cost_limit_in_usd_over_time: Decimal | None = None
    cost_limit_in_usd_unit: str | None = None
    rate_limit_over_time: int | None = None
    rate_limit_unit: str | None = None
    ttl: str | None = None
    allowed_paths: list[NewAllowedPath] | None = None
    allowed_models: list[str] | None = None


class UserFilter(msgspec.Struct, frozen=True):
    """Which users: with all of `tags`, one of `user_ids`, one of `key_ids`; a limit of 0 is none."""

    tags: tuple[str, ...] = ()
    user_ids: tuple[str, ...] = ()
    key_ids: tuple[str, ...] = ()
    limit: int = 0
    offset: int = 0


class AllowedPathWire(msgspec.Struct, frozen=True):
    """A method and a route template."""

    method: str
    path: str


class UserWire(msgspec.Struct, frozen=True, rename="camel"):
    """One as clients see it."""

    id: str
    name: str
    created_at: int
    updated_at: int
    tags: tuple[str, ...] | None
    key_ids: tuple[str, ...] | None
    revoked: bool
    revoked_reason: str
    cost_limit_in_usd: Number
    cost_limit_in_usd_over_time: Number
    cost_limit_in_usd_unit: str
    rate_limit_over_time: int
    rate_limit_unit: str
    ttl: str
    allowed_paths: tuple[AllowedPathWire, ...] | None
    allowed_models: tuple[str, ...] | None
    user_id: str


def to_wire(user: User) -> UserWire:
    """One as clients see it; every field always present."""
    return UserWire(
        id=user.id,
        name=user.name,
        created_at=user.created_at,
        updated_at=user.updated_at,
        tags=user.tags or None,
        key_ids=user.key_ids or None,
        revoked=user.revoked,
        revoked_reason=user.revoked_reason,
        cost_limit_in_usd=number(user.cost_limit_in_usd),
        cost_limit_in_usd_over_time=number(user.cost_limit_in_usd_over_time),
        cost_limit_in_usd_unit=user.cost_limit_in_usd_unit,
        rate_limit_over_time=user.rate_limit_over_time,
        rate_limit_unit=user.rate_limit_unit,
        ttl=user.ttl,
        allowed_paths=None
        if user.allowed_paths is None
        else tuple(AllowedPathWire(path.method, path.path) for path in user.allowed_paths),
        allowed_models=user.allowed_models,
        user_id=user.user_id,
    )
