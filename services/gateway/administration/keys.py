"""Client keys: who may call, with which provider settings."""

import time
from decimal import Decimal
from hashlib import sha256
from typing import Any

import msgspec

from contracts.config.keys import AllowedPath, ApiKey
from contracts.config.provider_settings import ProviderSetting
from contracts.ids import new_id, to_text
from gateway.administration.invalid import Conflict, Invalid, holds_nul
from gateway.administration.store import Change, Query
from runtime.settings import parse_duration

_RATE_UNITS = ("h", "m", "s", "d")
_COST_UNITS = ("m", "h", "d", "mo")

TAG_BYTES_MAX = 1024
TAGS_BYTES_MAX = 65_536
"""They travel in every event of the key."""
INTEGER_MAX = 2**63 - 1
_COST_EXPONENTS = range(-24, 16)
"""Decimal places and digits before the point that an amount of US dollars may have."""


class NewAllowedPath(msgspec.Struct):
    """A route template and a method."""

    path: str = ""
    method: str = ""


class NewKey(msgspec.Struct, rename="camel"):
    """What a client sends to create one. Money keeps its decimal text."""

    name: str = ""
    key: str = ""
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


def check(new: NewKey) -> None:
    """The rules of the key table, in its order. Raises Invalid."""
    if not new.setting_id and not new.setting_ids:
        raise Invalid("settingId is not set in either setting_id or setting_ids field")
    if new.setting_id and new.setting_ids:
        raise Invalid("either settingId or settingIds")
    invalid = [
        *([] if _are_tags(new.tags or []) else ["tags"]),
        *(["key"] if not new.key else []),
        *(["name"] if not new.name else []),
        *[f"settingIds[{i}]" for i, text in enumerate(new.setting_ids or ()) if not text],
        *([] if _is_amount(new.cost_limit_in_usd) else ["costLimitInUsd"]),
        *([] if _is_amount(new.cost_limit_in_usd_over_time) else ["costLimitInUsdOverTime"]),
        *([] if 0 <= new.rate_limit_over_time <= INTEGER_MAX else ["rateLimitOverTime"]),
        *(["ttl"] if new.ttl and not _is_go_duration(new.ttl) else []),
        *_invalid_path(new.allowed_paths),
    ]
    if invalid:
        raise Invalid(f"fields [{', '.join(invalid)}] are invalid")
    _check_unit("rate limit", new.rate_limit_unit, bool(new.rate_limit_over_time), _RATE_UNITS)
    _check_unit(
        "cost limit",
        new.cost_limit_in_usd_unit,
        bool(new.cost_limit_in_usd_over_time),
        _COST_UNITS,
    )
    paths = [text for path in new.allowed_paths or () for text in (path.path, path.method)]
    ids = [new.policy_id, new.setting_id, *(new.setting_ids or ())]
    if holds_nul([new.name, new.key, *ids, *(new.tags or ()), *paths]):
        raise Invalid("NUL is not allowed")


def _are_tags(tags: list[str]) -> bool:
    sizes = [len(tag.encode()) for tag in tags]
    return all(0 < size <= TAG_BYTES_MAX for size in sizes) and sum(sizes) <= TAGS_BYTES_MAX


def _is_amount(amount: Decimal) -> bool:
    """Finite, not negative, and no longer than anybody's money."""
    if not amount.is_finite() or amount < 0:
        return False
    exponent = amount.as_tuple().exponent
    assert isinstance(exponent, int)
    return exponent in _COST_EXPONENTS and amount.adjusted() in _COST_EXPONENTS


def _is_go_duration(text: str) -> bool:
    if text.endswith("d") or text[-1:].isdigit():
        return False
    try:
        parse_duration(text)
    except ValueError:
        return False
    return True


def _invalid_path(paths: list[NewAllowedPath] | None) -> list[str]:
    for i, path in enumerate(paths or ()):
        if not path.path:
            return [f"allowedPaths.{i}.path"]
        if not path.method:
            return [f"allowedPaths.{i}.method"]
    return []


def _check_unit(name: str, unit: str, has_amount: bool, units: tuple[str, ...]) -> None:
    if unit and not has_amount:
        raise Invalid(f"{name} over time can not be empty if {name} unit is specified")
    if has_amount and not unit:
        raise Invalid(f"{name} unit can not be empty if {name} over time is specified")
    if unit and unit not in units:
        raise Invalid(f"{name} unit can not be identified")


async def create(new: NewKey, change: Change) -> ApiKey:
    """Raises Invalid, Conflict."""
    check(new)
    setting_ids = tuple(new.setting_ids or [new.setting_id])
    known = await change.count(ProviderSetting, Query(ids=setting_ids))
    if known != len(setting_ids):
        raise Invalid(
            "provider setting is not found" if new.setting_id else "not all settings are found"
        )
    now = int(time.time())
    paths = new.allowed_paths
    key = ApiKey(
        key_id=to_text(new_id()),
        key_hash=sha256(new.key.encode()).hexdigest(),
        shown_key=new.key if new.is_key_not_hashed else "",
        name=new.name,
        tags=tuple(new.tags or ()),
        setting_ids=setting_ids,
        setting_id=new.setting_id,
        cost_limit_in_usd=new.cost_limit_in_usd,
        cost_limit_in_usd_over_time=new.cost_limit_in_usd_over_time,
        cost_limit_in_usd_unit=new.cost_limit_in_usd_unit,
        rate_limit_over_time=new.rate_limit_over_time,
        rate_limit_unit=new.rate_limit_unit,
        ttl=new.ttl,
        allowed_paths=None
        if paths is None
        else tuple(AllowedPath(path.path, path.method.upper()) for path in paths),
        should_log_request=new.should_log_request,
        should_log_response=new.should_log_response,
        rotation_enabled=new.rotation_enabled,
        policy_id=new.policy_id,
        is_key_not_hashed=new.is_key_not_hashed,
        created_at=now,
        updated_at=now,
    )
    try:
        await change.put(key.key_id, key)
    except Conflict:
        raise Conflict("the key is already in use (key_uniqueness)") from None
    return key


def to_wire(key: ApiKey) -> dict[str, Any]:
    """One as clients see it; every field always present."""
    return {
        "name": key.name,
        "createdAt": key.created_at,
        "updatedAt": key.updated_at,
        "tags": list(key.tags) or None,
        "keyId": key.key_id,
        "revoked": key.revoked,
        "key": key.shown_key or key.key_hash,
        "revokedReason": key.revoked_reason,
        "costLimitInUsd": _number(key.cost_limit_in_usd),
        "costLimitInUsdOverTime": _number(key.cost_limit_in_usd_over_time),
        "costLimitInUsdUnit": key.cost_limit_in_usd_unit,
        "rateLimitOverTime": key.rate_limit_over_time,
        "rateLimitUnit": key.rate_limit_unit,
        "ttl": key.ttl,
        "settingId": key.setting_id,
        "allowedPaths": None
        if key.allowed_paths is None
        else [{"method": path.method, "path": path.path} for path in key.allowed_paths],
        "settingIds": [] if key.setting_id else key.setting_ids,
        "shouldLogRequest": key.should_log_request,
        "shouldLogResponse": key.should_log_response,
        "rotationEnabled": key.rotation_enabled,
        "policyId": key.policy_id,
        "isKeyNotHashed": key.is_key_not_hashed,
    }


def _number(amount: Decimal) -> msgspec.Raw:
    """A decimal as a JSON number, digit for digit."""
    return msgspec.Raw(f"{amount:f}".encode())
