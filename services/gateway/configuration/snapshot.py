"""What is in force, indexed for the hot path; replaced, never changed."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from contracts.config.keys import TagLimits
from contracts.config.policies import Policy
from contracts.config.provider_settings import CustomProvider, ModelAlias
from contracts.config.routes import Route
from gateway.configuration.items import Item
from gateway.configuration.table import Table
from gateway.values import EndUser, Principal, Target


class Snapshot(msgspec.Struct, frozen=True):
    """What is in force.

    `principal_by_digest` is keyed by the 32 bytes of SHA-256 of the key, `users_by_user_id` by what
    requests name. `items` holds what is listed in INDEX_BY_KIND, by kind and id. Aliases are in the
    order in which they are tried. `unusable` is what is stored and not in force, kind and id to
    revision. `fingerprint` adds up `fingerprint_of` of all that is stored.
    """

    revision: int = 0
    fingerprint: int = 0
    principal_by_digest: Table[bytes, Principal] = Table()
    principal_by_key_id: Table[str, Principal] = Table()
    users_by_user_id: Table[str, tuple[EndUser, ...]] = Table()
    user_by_id: Table[str, EndUser] = Table()
    target_by_setting: Table[str, Target] = Table()
    items: Mapping[str, Table[str, Item]] = {}
    aliases: tuple[ModelAlias, ...] = ()
    custom_provider_by_name: Table[str, CustomProvider] = Table()
    route_by_path: Table[str, Route] = Table()
    policy_by_id: Table[str, Policy] = Table()
    limits_by_tag: Table[str, TagLimits] = Table()
    unusable: Mapping[tuple[str, str], int] = {}


EMPTY: Final = Snapshot()

INDEX_BY_KIND: Final[Mapping[str, tuple[str, str]]] = {
    "custom_provider": ("custom_provider_by_name", "provider"),
    "route": ("route_by_path", "path"),
    "policy": ("policy_by_id", "id"),
    "tag_limits": ("limits_by_tag", "tag"),
    "model_alias": ("", ""),
}
"""For each kind that is in force as it is stored: a table of the snapshot, and its key's member."""

KINDS: Final = ("key", "provider_setting", "user", *INDEX_BY_KIND)
"""What the data plane needs."""


def in_order(aliases: Table[str, Item]) -> tuple[ModelAlias, ...]:
    """The lowest position first, then the oldest."""
    values: list[Any] = [item.value for item in aliases.values()]
    return tuple(sorted(values, key=lambda one: (one.position, one.created_at, one.id)))
