"""Limits of which there may be several: of requests, of cost, of tokens, each with its window."""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from functools import cache
from typing import Final, cast
from zoneinfo import available_timezones

import msgspec

from contracts.config.keys import CostLimit, CostUnit, RateLimit, RateUnit, TokenLimit
from gateway.administration.limit_rules import COST_UNITS, INTEGER_MAX, RATE_UNITS, wrong_amount
from gateway.administration.wire import Number, number

LIMITS_MAX: Final = 16
"""Entries of one list: each is a counter that every request of the key has to ask."""


class NewRateLimit(msgspec.Struct, forbid_unknown_fields=True):
    """At most `limit` requests in a window of one `unit`: s, m, h or d."""

    limit: int = 0
    unit: str = ""


class NewCostLimit(msgspec.Struct, forbid_unknown_fields=True):
    """At most `usd` in a calendar window of one `unit`, m, h, d or mo, in an IANA time zone."""

    usd: Decimal = Decimal(0)
    unit: str = ""
    timezone: str = ""


class NewTokenLimit(msgspec.Struct, forbid_unknown_fields=True):
    """At most `tokens`, in and out together, in a window of one `unit`: s, m, h or d."""

    tokens: int = 0
    unit: str = ""


class CostLimitWire(msgspec.Struct, frozen=True):
    """A cost limit as clients see it."""

    usd: Number
    unit: CostUnit
    timezone: str | msgspec.UnsetType = msgspec.UNSET


class LimitLists(msgspec.Struct, frozen=True):
    """The lists of one request; None is one that was not sent."""

    rate_limits: Sequence[NewRateLimit] | None
    cost_limits: Sequence[NewCostLimit] | None
    token_limits: Sequence[NewTokenLimit] | None


def wrong_limits(sent: LimitLists) -> Iterator[str]:
    """Members that are wrong: `rateLimits.0.unit`. Two limits of one window are one too many."""
    yield from _wrong_list(
        "rateLimits",
        [
            (("limit", 0 < one.limit <= INTEGER_MAX), ("unit", one.unit in RATE_UNITS))
            for one in sent.rate_limits or ()
        ],
        [one.unit for one in sent.rate_limits or ()],
    )
    yield from _wrong_list(
        "costLimits",
        [
            (
                ("usd", one.usd != 0 and not wrong_amount("usd", one.usd)),
                ("unit", one.unit in COST_UNITS),
                ("timezone", not one.timezone or one.timezone in _timezones()),
            )
            for one in sent.cost_limits or ()
        ],
        [(one.unit, one.timezone or "UTC") for one in sent.cost_limits or ()],
    )
    yield from _wrong_list(
        "tokenLimits",
        [
            (("tokens", 0 < one.tokens <= INTEGER_MAX), ("unit", one.unit in RATE_UNITS))
            for one in sent.token_limits or ()
        ],
        [one.unit for one in sent.token_limits or ()],
    )


def _wrong_list(
    name: str, checks: list[tuple[tuple[str, bool], ...]], windows: Sequence[object]
) -> Iterator[str]:
    if len(checks) > LIMITS_MAX:
        yield name
        return
    for i, members in enumerate(checks):
        wrong = [member for member, fits in members if not fits]
        if not wrong and windows[i] in windows[:i]:
            wrong = ["unit"]
        for member in wrong:
            yield f"{name}.{i}.{member}"


@cache
def _timezones() -> frozenset[str]:
    """By name; `localtime` is whatever this machine thinks it is."""
    return frozenset(available_timezones() - {"localtime"})


def rate_limits_of(sent: Sequence[NewRateLimit] | None) -> tuple[RateLimit, ...] | None:
    """As they are stored; none is None."""
    found = tuple(RateLimit(one.limit, cast(RateUnit, one.unit)) for one in sent or ())
    return found or None


def cost_limits_of(sent: Sequence[NewCostLimit] | None) -> tuple[CostLimit, ...] | None:
    """As they are stored; none is None."""
    found = tuple(CostLimit(one.usd, cast(CostUnit, one.unit), one.timezone) for one in sent or ())
    return found or None


def token_limits_of(sent: Sequence[NewTokenLimit] | None) -> tuple[TokenLimit, ...] | None:
    """As they are stored; none is None."""
    found = tuple(TokenLimit(one.tokens, cast(RateUnit, one.unit)) for one in sent or ())
    return found or None


def cost_limits_to_wire(
    limits: tuple[CostLimit, ...] | None,
) -> tuple[CostLimitWire, ...] | msgspec.UnsetType:
    """As clients see them; absent when there are none."""
    if not limits:
        return msgspec.UNSET
    return tuple(
        CostLimitWire(number(one.usd), one.unit, one.timezone or msgspec.UNSET) for one in limits
    )
