"""An end user of a key's owner, with entitlements of their own."""

from decimal import Decimal
from typing import Final

import msgspec

from contracts.config.keys import AllowedPath

USER_ID_CHARS_MAX: Final = 512
"""A longer one in a request is recorded, and looked for, by its hash."""


class User(msgspec.Struct, frozen=True, omit_defaults=True):
    """Found by `user_id` among the users whose `tags` hold every tag of the calling key.

    `key_ids`, when there are any, are the only keys the user may call with. Times are Unix seconds.
    """

    id: str
    user_id: str
    name: str
    created_at: int
    updated_at: int
    tags: tuple[str, ...] = ()
    key_ids: tuple[str, ...] = ()
    revoked: bool = False
    revoked_reason: str = ""
    ttl: str = ""
    allowed_paths: tuple[AllowedPath, ...] | None = None
    allowed_models: tuple[str, ...] | None = None
    cost_limit_in_usd: Decimal = Decimal(0)
    cost_limit_in_usd_over_time: Decimal = Decimal(0)
    cost_limit_in_usd_unit: str = ""
    rate_limit_over_time: int = 0
    rate_limit_unit: str = ""
