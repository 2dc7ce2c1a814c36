"""Keys as clients send and see them."""

from decimal import Decimal

import msgspec

from contracts.config.keys import ApiKey, RateLimit, TokenLimit
from gateway.administration.limit_lists import (
    CostLimitWire,
    NewCostLimit,
    NewRateLimit,
    NewTokenLimit,
    cost_limits_to_wire,
)
from gateway.administration.limit_rules import NewAllowedPath
from gateway.administration.users_wire import AllowedPathWire
from gateway.administration.wire import Number, number


class NewKey(msgspec.Struct, rename="camel"):
    """What a client sends to create one; without `key` one is generated.

    Money keeps its decimal text.
    """

    name: str = ""
    key: str | None = None
    tags: list[str] | None = None
    setting_id: str = ""
    setting_ids: list[str] | None = None
    cost_limit_in_usd: Decimal = Decimal(0)
    cost_limit_in_usd_over_time: Decimal = Decimal(0)
    cost_limit_in_usd_unit: str = ""
    rate_limit_over_time: int = 0
    rate_limit_unit: str = ""
    ttl: str = ""
    allowed_paths: list[NewAllowedPath] | None = None
    should_log_request: bool = False
    should_log_response: bool = False
    rotation_enabled: bool = False
    policy_id: str = ""
    is_key_not_hashed: bool = False
    expires_at: int | None = None
    allowed_models: list[str] | None = None
    rate_limits: list[NewRateLimit] | None = None
    cost_limits: list[NewCostLimit] | None = None
    token_limits: list[NewTokenLimit] | None = None
    concurrency_limit: int | None = None
    hold_policy: str | None = None
    balancing: str | None = None
    allow_unmetered_paths: bool | None = None


class KeyChange(msgspec.Struct, rename="camel"):
    """What a client sends to change one: what is absent stays.

    An empty name, list of tags, setting id or list of setting ids is absent too. Of the members
    from `expires_at` on, 0, "" and an empty list take away what was set.
    """

    name: str = ""
    tags: list[str] | None = None
    revoked: bool | None = None
    revoked_reason: str = ""
    setting_id: str = ""
    setting_ids: list[str] | None = None
    cost_limit_in_usd: Decimal | None = None
    cost_limit_in_usd_over_time: Decimal | None = None
    cost_limit_in_usd_unit: str | None = None
    rate_limit_over_time: int | None = None
    rate_limit_unit: str | None = None
    allowed_paths: list[NewAllowedPath] | None = None
    should_log_request: bool | None = None
    should_log_response: bool | None = None
    rotation_enabled: bool | None = None
    policy_id: str | None = None
    is_key_not_hashed: bool | None = None
    expires_at: int | None = None
    allowed_models: list[str] | None = None
    rate_limits: list[NewRateLimit] | None = None
    cost_limits: list[NewCostLimit] | None = None
    token_limits: list[NewTokenLimit] | None = None
    concurrency_limit: int | None = None
    hold_policy: str | None = None
    balancing: str | None = None
    allow_unmetered_paths: bool | None = None


class KeyFilter(msgspec.Struct, frozen=True):
    """Which keys: with all of `tags`, one of `key_ids`, a setting of `provider`."""

    tags: tuple[str, ...] = ()
    key_ids: tuple[str, ...] = ()
    provider: str = ""


class KeysQuery(msgspec.Struct, rename="camel"):
    """A page of keys: with all of `tags`, one of `key_ids`, `name` in their names.

    `order` by creation is `asc` or `desc`, which is also the default. A `limit` of 0 is none, and
    then `offset` is ignored.
    """

    key_ids: list[str] | None = None
    tags: list[str] | None = None
    name: str | None = None
    revoked: bool | None = None
    limit: int = 0
    offset: int = 0
    order: str = ""
    return_count: bool = False


class KeyWire(msgspec.Struct, frozen=True, rename="camel"):
    """One as clients see it. `key` is the SHA-256 of the key in hex, with two exceptions.

    It is the key itself when `is_key_not_hashed`, and in the answer that a generated key is in.
    """

    name: str
    created_at: int
    updated_at: int
    tags: tuple[str, ...] | None
    key_id: str
    revoked: bool
    key: str
    revoked_reason: str
    cost_limit_in_usd: Number
    cost_limit_in_usd_over_time: Number
    cost_limit_in_usd_unit: str
    rate_limit_over_time: int
    rate_limit_unit: str
    ttl: str
    setting_id: str
    allowed_paths: tuple[AllowedPathWire, ...] | None
    setting_ids: tuple[str, ...]
    should_log_request: bool
    should_log_response: bool
    rotation_enabled: bool
    policy_id: str
    is_key_not_hashed: bool
    public_id: str | msgspec.UnsetType = msgspec.UNSET
    expires_at: int | msgspec.UnsetType = msgspec.UNSET
    allowed_models: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    rate_limits: tuple[RateLimit, ...] | msgspec.UnsetType = msgspec.UNSET
    cost_limits: tuple[CostLimitWire, ...] | msgspec.UnsetType = msgspec.UNSET
    token_limits: tuple[TokenLimit, ...] | msgspec.UnsetType = msgspec.UNSET
    concurrency_limit: int | msgspec.UnsetType = msgspec.UNSET
    hold_policy: str | msgspec.UnsetType = msgspec.UNSET
    balancing: str | msgspec.UnsetType = msgspec.UNSET
    allow_unmetered_paths: bool | msgspec.UnsetType = msgspec.UNSET


class KeysPage(msgspec.Struct, frozen=True):
    """`count` is of all that match when it was asked for, otherwise 0."""

    keys: tuple[KeyWire, ...]
    count: int


def to_wire(key: ApiKey, generated: str = "") -> KeyWire:
    """One as clients see it; `generated` is the key that was just made for it."""
    return KeyWire(
        name=key.name,
        created_at=key.created_at,
        updated_at=key.updated_at,
        tags=key.tags or None,
        key_id=key.key_id,
        revoked=key.revoked,
        key=generated or key.shown_key or key.key_hash,
        revoked_reason=key.revoked_reason,
        cost_limit_in_usd=number(key.cost_limit_in_usd),
        cost_limit_in_usd_over_time=number(key.cost_limit_in_usd_over_time),
        cost_limit_in_usd_unit=key.cost_limit_in_usd_unit,
        rate_limit_over_time=key.rate_limit_over_time,
        rate_limit_unit=key.rate_limit_unit,
        ttl=key.ttl,
        setting_id=key.setting_id,
        allowed_paths=None
        if key.allowed_paths is None
        else tuple(AllowedPathWire(path.method, path.path) for path in key.allowed_paths),
        setting_ids=() if key.setting_id else key.setting_ids,
        should_log_request=key.should_log_request,
        should_log_response=key.should_log_response,
        rotation_enabled=key.rotation_enabled,
        policy_id=key.policy_id,
        is_key_not_hashed=key.is_key_not_hashed,
        public_id=key.public_id or msgspec.UNSET,
        expires_at=key.expires_at or msgspec.UNSET,
        allowed_models=key.allowed_models or msgspec.UNSET,
        rate_limits=key.rate_limits or msgspec.UNSET,
        cost_limits=cost_limits_to_wire(key.cost_limits),
        token_limits=key.token_limits or msgspec.UNSET,
        concurrency_limit=key.concurrency_limit or msgspec.UNSET,
        hold_policy=key.hold_policy or msgspec.UNSET,
        balancing=key.balancing or msgspec.UNSET,
        allow_unmetered_paths=key.allow_unmetered_paths or msgspec.UNSET,
    )
