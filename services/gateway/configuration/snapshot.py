"""What is in force, indexed for the hot path; replaced, never changed."""

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import msgspec

from contracts.config.keys import ApiKey, TagLimits
from contracts.config.policies import Policy
from contracts.config.provider_settings import CustomProvider, ModelAlias
from contracts.config.routes import Route
from contracts.config.users import User
from gateway.configuration.items import Changes, Item
from gateway.configuration.principals import end_user_of, principal_of
from gateway.values import EndUser, Principal, Target

log = logging.getLogger(__name__)

Value = TypeVar("Value")


class Snapshot(msgspec.Struct, frozen=True):
    """What is in force.

    `principal_by_digest` is keyed by the 32 bytes of SHA-256 of the key, `users_by_user_id` by what
    requests name. `items` holds the values of every kind but keys and settings by id, from which
    the tables after it are made. Aliases are in the order in which they are tried.
    """

    revision: int = 0
    principal_by_digest: dict[bytes, Principal] = {}
    digest_by_key_id: dict[str, bytes] = {}
    target_by_setting: dict[str, Target] = {}
    items: dict[str, dict[str, Any]] = {}
    users_by_user_id: dict[str, tuple[EndUser, ...]] = {}
    aliases: tuple[ModelAlias, ...] = ()
    custom_provider_by_name: dict[str, CustomProvider] = {}
    route_by_path: dict[str, Route] = {}
    policy_by_id: dict[str, Policy] = {}
    limits_by_tag: dict[str, TagLimits] = {}


EMPTY = Snapshot()


def _users(users: Iterable[User]) -> dict[str, tuple[EndUser, ...]]:
    found: dict[str, tuple[EndUser, ...]] = {}
    for user in users:
        found[user.user_id] = (*found.get(user.user_id, ()), end_user_of(user))
    return found


_TABLES: dict[str, tuple[str, Callable[[Iterable[Any]], Any]]] = {
    "user": ("users_by_user_id", _users),
    "model_alias": (
        "aliases",
        lambda values: tuple(
            sorted(values, key=lambda one: (one.position, one.created_at, one.id))
        ),
    ),
    "custom_provider": (
        "custom_provider_by_name",
        lambda values: {one.provider: one for one in values},
    ),
    "route": ("route_by_path", lambda values: {one.path: one for one in values}),
    "policy": ("policy_by_id", lambda values: {one.id: one for one in values}),
    "tag_limits": ("limits_by_tag", lambda values: {one.tag: one for one in values}),
}
"""For each kind: the table of the snapshot that is made from all of its values."""


def apply(snapshot: Snapshot, changes: Changes, targets: Mapping[str, Target]) -> Snapshot:
    """The next snapshot. `targets` holds what was made of the changed settings.

    One that could not be made must not keep the others, or a revocation, from taking effect: it is
    left out, and its keys are told that they have no provider setting.
    """
    base = EMPTY if changes.is_full else snapshot
    by_kind: dict[str, list[Item]] = {}
    for item in changes.items:
        by_kind.setdefault(item.kind, []).append(item)
    gone: dict[str, set[str]] = {}
    for kind, item_id in changes.deleted:
        gone.setdefault(kind, set()).add(item_id)
    principals, digests = _with_keys(base, by_kind.pop("key", []), gone.pop("key", set()))
    settings = {item.id for item in by_kind.pop("provider_setting", ())}
    without = settings | gone.pop("provider_setting", set())
    in_force = {key: one for key, one in base.target_by_setting.items() if key not in without}
    tables = {name: getattr(base, name) for name, _ in _TABLES.values()}
    items = dict(base.items)
    for kind in (by_kind.keys() | gone.keys()) & _TABLES.keys():
        values = {
            item_id: value
            for item_id, value in items.get(kind, {}).items()
            if item_id not in gone.get(kind, ())
        }
        values |= {item.id: item.value for item in by_kind.get(kind, ())}
        items[kind] = values
        name, make = _TABLES[kind]
        tables[name] = make(values.values())
    return Snapshot(
        revision=changes.revision,
        principal_by_digest=principals,
        digest_by_key_id=digests,
        target_by_setting=in_force | dict(targets),
        items=items,
        **tables,
    )


def _with_keys(
    base: Snapshot, items: list[Item], gone: set[str]
) -> tuple[dict[bytes, Principal], dict[str, bytes]]:
    """The next principals. A key whose hash changed loses its old digest."""
    if not items and not gone:
        return base.principal_by_digest, base.digest_by_key_id
    principals = dict(base.principal_by_digest)
    digests = dict(base.digest_by_key_id)
    for key_id in gone | {item.id for item in items}:
        digest = digests.pop(key_id, None)
        if digest is not None:
            principals.pop(digest, None)
    for item in items:
        key = item.value
        assert isinstance(key, ApiKey)
        try:
            digest = bytes.fromhex(key.key_hash)
            if len(digest) != 32:
                raise ValueError("no SHA-256")
            principal = principal_of(key)
        except ValueError as error:
            log.error("configuration.key_unusable id=%s error=%s", key.key_id, error)
            continue
        principals[digest] = principal
        digests[key.key_id] = digest
    return principals, digests
