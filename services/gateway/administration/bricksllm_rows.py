"""Rows of a BricksLLM database, read by the names of their columns.

A column that is absent, or NULL, has its default: older releases have fewer of them.
"""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Final, Generic, TypeVar

import msgspec

from contracts.config.keys import AllowedPath
from gateway.administration.custom_providers_wire import NewRouteConfig
from gateway.administration.go_json import read_struct
from gateway.administration.limit_rules import NewAllowedPath
from gateway.administration.policies_wire import EntityConfig, RuleConfig
from gateway.administration.routes_wire import CacheConfigWire, StepWire


class CustomProviderRow(msgspec.Struct, frozen=True):
    """Times are Unix seconds here and below."""

    id: str
    provider: str
    created_at: int
    updated_at: int = 0
    route_configs: list[NewRouteConfig] = []
    authentication_param: str = ""


class ProviderSettingRow(msgspec.Struct, frozen=True):
    """`cost_map` is JSON text. Values of `setting` may be encrypted; nothing says so."""

    id: str
    provider: str
    created_at: int
    updated_at: int = 0
    setting: dict[str, str] = {}
    name: str = ""
    allowed_models: list[str] = []
    cost_map: msgspec.Raw | None = None


class PolicyRow(msgspec.Struct, frozen=True):
    """Configurations that were never given are `{}`."""

    id: str
    created_at: int
    updated_at: int = 0
    name: str = ""
    tags: list[str] = []
    config: EntityConfig = msgspec.field(default_factory=EntityConfig)
    regex_config: RuleConfig = msgspec.field(default_factory=RuleConfig)
    custom_config: RuleConfig = msgspec.field(default_factory=RuleConfig)


class LimitedRow(msgspec.Struct, frozen=True, kw_only=True):
    """What keys and users have in common."""

    created_at: int
    updated_at: int = 0
    name: str = ""
    tags: list[str] = []
    revoked: bool = False
    revoked_reason: str = ""
    cost_limit_in_usd: Decimal = Decimal(0)
    cost_limit_in_usd_over_time: Decimal = Decimal(0)
    cost_limit_in_usd_unit: str = ""
    rate_limit_over_time: int = 0
    rate_limit_unit: str = ""
    ttl: str = ""
    allowed_paths: list[NewAllowedPath] | None = None


class KeyRow(LimitedRow, frozen=True, kw_only=True):
    """`key` is the SHA-256 of the key, or the key itself when `is_key_not_hashed`."""

    key_id: str
    key: str
    setting_id: str = ""
    setting_ids: list[str] = []
    should_log_request: bool = False
    should_log_response: bool = False
    rotation_enabled: bool = False
    policy_id: str = ""
    is_key_not_hashed: bool = False


class UserRow(LimitedRow, frozen=True, kw_only=True):
    """An end user."""

    id: str
    user_id: str
    key_ids: list[str] = []
    allowed_models: list[str] | None = None


class RouteRow(msgspec.Struct, frozen=True):
    """Steps over providers."""

    id: str
    name: str
    path: str
    created_at: int
    updated_at: int = 0
    key_ids: list[str] = []
    steps: list[StepWire] = []
    cache_config: CacheConfigWire = msgspec.field(default_factory=CacheConfigWire)
    request_format: str = ""
    retry_strategy: str = ""


ID_BY_TABLE: Final = {
    "custom_providers": "id",
    "provider_settings": "id",
    "policies": "id",
    "keys": "key_id",
    "users": "id",
    "routes": "id",
}
"""The tables that are read, each after those that its rows refer to, and their ids."""


class Remark(msgspec.Struct, frozen=True):
    """What there is to say of a row."""

    table: str
    id: str
    text: str


Row = TypeVar("Row", bound=msgspec.Struct)


class Rows(msgspec.Struct, Generic[Row], frozen=True):
    """Those that could be read, by creation then id, and what is wrong with the others."""

    good: list[Row]
    bad: list[Remark]


def read_rows(table: str, documents: Iterable[str], kind: type[Row]) -> Rows[Row]:
    """Of JSON objects, a member a column."""
    rows: list[tuple[int, str, Row]] = []
    bad: list[Remark] = []
    for document in documents:
        members = msgspec.json.decode(document, type=dict[str, msgspec.Raw])
        row_id = _text(members.get(ID_BY_TABLE[table]))
        try:
            row = read_struct(document.encode(), kind)
        except (msgspec.DecodeError, TypeError, RecursionError) as error:
            bad.append(Remark(table, row_id, str(error)))
        else:
            rows.append((row.created_at, row_id, row))  # type: ignore[attr-defined]
    rows.sort(key=lambda one: one[:2])
    return Rows([row for _, _, row in rows], sorted(bad, key=lambda one: one.id))


def _text(raw: msgspec.Raw | None) -> str:
    return "" if raw is None else str(msgspec.json.decode(raw) or "")


def limits_as_sent(row: LimitedRow) -> dict[str, Any]:
    """What keys and users have in common, as clients send it."""
    return {
        "name": row.name,
        "tags": row.tags,
        "cost_limit_in_usd": row.cost_limit_in_usd,
        "cost_limit_in_usd_over_time": row.cost_limit_in_usd_over_time,
        "cost_limit_in_usd_unit": row.cost_limit_in_usd_unit,
        "rate_limit_over_time": row.rate_limit_over_time,
        "rate_limit_unit": row.rate_limit_unit,
        "ttl": row.ttl,
        "allowed_paths": row.allowed_paths,
    }


def limits_as_stored(row: LimitedRow) -> dict[str, Any]:
    """The same as it is stored."""
    paths = row.allowed_paths
    return limits_as_sent(row) | {
        "created_at": row.created_at,
        "updated_at": row.updated_at or row.created_at,
        "tags": tuple(row.tags),
        "revoked": row.revoked,
        "revoked_reason": row.revoked_reason,
        "allowed_paths": None
        if paths is None
        else tuple(AllowedPath(path.path, path.method.upper()) for path in paths),
    }
