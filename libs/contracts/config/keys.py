"""A client's key, and the limits that keys, users and tags have in common."""

from decimal import Decimal
from typing import Final, Literal, get_args

import msgspec

RateUnit = Literal["s", "m", "h", "d"]
CostUnit = Literal["m", "h", "d", "mo"]

HoldPolicy = Literal["", "worst_case", "typical"]
"""How much of a budget a request holds until its cost is known.

`worst_case` (also ""): the most that it can cost, so that spending never passes the limit.
`typical`: what most of the key's requests cost lately, for clients that allow long answers and get
short ones; the limit may be passed by what the requests under way cost beyond that.
"""

Balancing = Literal["", "first", "random", "weighted", "least_busy", "sticky"]
"""How a request picks among settings of the same priority.

`first`: in the key's order. `random`: all alike. `weighted`: by the settings' weights. `least_busy`:
the one with the fewest requests under way. `sticky`: the same for the same end user. "": `first`,
or `random` when the key's `rotation_enabled` is set.
"""

HOLD_POLICIES: Final[tuple[str, ...]] = get_args(HoldPolicy)
BALANCINGS: Final[tuple[str, ...]] = get_args(Balancing)


class AllowedPath(msgspec.Struct, frozen=True):
    """A route template and an upper-case method, as `allowedPaths` names them."""

    path: str
    method: str


class RateLimit(msgspec.Struct, frozen=True):
    """At most `limit` requests in a window of one `unit`."""

    limit: int
    unit: RateUnit


class CostLimit(msgspec.Struct, frozen=True, omit_defaults=True):
    """At most `usd` in a calendar window of one `unit`, in `timezone` (an IANA name; "" is UTC)."""

    usd: Decimal
    unit: CostUnit
    timezone: str = ""


class TokenLimit(msgspec.Struct, frozen=True):
    """At most `tokens`, in and out together, in a window of one `unit`."""

    tokens: int
    unit: RateUnit


class ApiKey(msgspec.Struct, frozen=True, omit_defaults=True):
    """A client's key. Times are Unix seconds; a limit of zero, "" or () is none.

    `key_hash` is lower-case hex SHA-256 of what the client sends. `shown_key` is the key itself,
    only for `is_key_not_hashed`. `public_id` is the part of a generated key that may be shown.
    A key ends at `expires_at`, or when `ttl` has passed since its creation, whichever is earlier.
    `setting_ids` are the settings in force; `setting_id` is set when a client named just one.
    """

    key_id: str
    key_hash: str
    name: str
    created_at: int
    updated_at: int
    setting_ids: tuple[str, ...]
    setting_id: str = ""
    tags: tuple[str, ...] = ()
    shown_key: str = ""
    public_id: str = ""
    is_key_not_hashed: bool = False
    revoked: bool = False
    revoked_reason: str = ""
    ttl: str = ""
    expires_at: int | None = None
    allowed_paths: tuple[AllowedPath, ...] | None = None
    allowed_models: tuple[str, ...] | None = None
    allow_unmetered_paths: bool = False
    cost_limit_in_usd: Decimal = Decimal(0)
    cost_limit_in_usd_over_time: Decimal = Decimal(0)
    cost_limit_in_usd_unit: str = ""
    rate_limit_over_time: int = 0
    rate_limit_unit: str = ""
    rate_limits: tuple[RateLimit, ...] | None = None
    cost_limits: tuple[CostLimit, ...] | None = None
    token_limits: tuple[TokenLimit, ...] | None = None
    concurrency_limit: int | None = None
    hold_policy: HoldPolicy = ""
    balancing: Balancing = ""
    rotation_enabled: bool = False
    should_log_request: bool = False
    should_log_response: bool = False
    policy_id: str = ""


class TagLimits(msgspec.Struct, frozen=True, omit_defaults=True):
    """Budgets of a tag, shared by every key that has it. An organisation is a tag.

    `cost_limit_in_usd` is of all time; a limit of zero or None is none.
    """

    tag: str
    created_at: int
    updated_at: int
    cost_limit_in_usd: Decimal = Decimal(0)
    rate_limits: tuple[RateLimit, ...] | None = None
    cost_limits: tuple[CostLimit, ...] | None = None
    token_limits: tuple[TokenLimit, ...] | None = None
    concurrency_limit: int | None = None
