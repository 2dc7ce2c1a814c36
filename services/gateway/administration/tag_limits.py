"""Limits of a tag, shared by every key that has it."""

import time
from decimal import Decimal
from typing import Final

import msgspec

from contracts.config.keys import RateLimit, TagLimits, TokenLimit
from gateway.administration.invalid import Invalid, NotFound
from gateway.administration.limit_lists import (
    CostLimitWire,
    LimitLists,
    NewCostLimit,
    NewRateLimit,
    NewTokenLimit,
    cost_limits_of,
    cost_limits_to_wire,
    rate_limits_of,
    token_limits_of,
    wrong_limits,
)
from gateway.administration.limit_rules import (
    TAG_BYTES_MAX,
    refuse_wrong,
    wrong_amount,
    wrong_count,
)
from gateway.administration.store import Change, Reading
from gateway.administration.wire import Number, number

INVALID: Final = "tag limits validation failed"


class NewTagLimits(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """What a client sends: all limits of the tag. What is absent, 0 or empty is no limit."""

    cost_limit_in_usd: Decimal = Decimal(0)
    rate_limits: list[NewRateLimit] | None = None
    cost_limits: list[NewCostLimit] | None = None
    token_limits: list[NewTokenLimit] | None = None
    concurrency_limit: int = 0


class TagLimitsWire(msgspec.Struct, frozen=True, rename="camel"):
    """They as clients see them; only what is set."""

    tag: str
    created_at: int
    updated_at: int
    cost_limit_in_usd: Number | msgspec.UnsetType = msgspec.UNSET
    rate_limits: tuple[RateLimit, ...] | msgspec.UnsetType = msgspec.UNSET
    cost_limits: tuple[CostLimitWire, ...] | msgspec.UnsetType = msgspec.UNSET
    token_limits: tuple[TokenLimit, ...] | msgspec.UnsetType = msgspec.UNSET
    concurrency_limit: int | msgspec.UnsetType = msgspec.UNSET


async def put(tag: str, new: NewTagLimits, change: Change) -> TagLimits:
    """The tag's limits from now on, whatever they were. Raises Invalid."""
    refuse_wrong(
        [
            *([] if 0 < len(tag.encode()) <= TAG_BYTES_MAX and "\0" not in tag else ["tag"]),
            *wrong_amount("costLimitInUsd", new.cost_limit_in_usd),
            *wrong_limits(LimitLists(new.rate_limits, new.cost_limits, new.token_limits)),
            *wrong_count("concurrencyLimit", new.concurrency_limit),
        ]
    )
    before = await change.get(TagLimits, tag)
    now = int(time.time())
    limits = TagLimits(
        tag=tag,
        created_at=now if before is None else before.created_at,
        updated_at=now,
        cost_limit_in_usd=new.cost_limit_in_usd,
        rate_limits=rate_limits_of(new.rate_limits),
        cost_limits=cost_limits_of(new.cost_limits),
        token_limits=token_limits_of(new.token_limits),
        concurrency_limit=new.concurrency_limit or None,
    )
    if not _limits_anything(limits):
        raise Invalid("no limit is given; DELETE takes all limits of a tag away")
    await change.put(tag, limits)
    return limits


async def get(tag: str, reading: Reading) -> TagLimits:
    """Raises NotFound."""
    limits = await reading.get(TagLimits, tag)
    if limits is None:
        raise NotFound(f"limits are not found for tag: {tag}")
    return limits


async def delete(tag: str, change: Change) -> None:
    """The tag has no limits, whether or not it had."""
    await change.delete(TagLimits, tag)


def _limits_anything(limits: TagLimits) -> bool:
    return bool(
        limits.cost_limit_in_usd
        or limits.rate_limits
        or limits.cost_limits
        or limits.token_limits
        or limits.concurrency_limit
    )


def to_wire(limits: TagLimits) -> TagLimitsWire:
    """They as clients see them."""
    return TagLimitsWire(
        tag=limits.tag,
        created_at=limits.created_at,
        updated_at=limits.updated_at,
        cost_limit_in_usd=number(limits.cost_limit_in_usd)
        if limits.cost_limit_in_usd
        else msgspec.UNSET,
        rate_limits=limits.rate_limits or msgspec.UNSET,
        cost_limits=cost_limits_to_wire(limits.cost_limits),
        token_limits=limits.token_limits or msgspec.UNSET,
        concurrency_limit=limits.concurrency_limit or msgspec.UNSET,
    )
