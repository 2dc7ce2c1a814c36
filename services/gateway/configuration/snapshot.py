"""Keys and targets, indexed for the hot path; replaced, never changed."""

import logging
from collections.abc import Callable, Iterable

import msgspec

from contracts.config import ApiKey, ProviderSetting
from gateway.values import Principal, Target

log = logging.getLogger(__name__)

TargetMaker = Callable[[ProviderSetting], Target]


class Changes(msgspec.Struct, frozen=True):
    """What came after a revision. `is_full` replaces everything that was."""

    revision: int
    keys: tuple[ApiKey, ...]
    settings: tuple[ProviderSetting, ...]
    deleted_keys: frozenset[str]
    deleted_settings: frozenset[str]
    is_full: bool


class Snapshot(msgspec.Struct, frozen=True):
    """What is in force. `principal_by_digest` is keyed by the 32 bytes of SHA-256 of the key."""

    revision: int
    principal_by_digest: dict[bytes, Principal]
    digest_by_key_id: dict[str, bytes]
    target_by_setting: dict[str, Target]


EMPTY = Snapshot(0, {}, {}, {})


def principal_of(key: ApiKey) -> Principal:
    """A stored key as the hot path wants it."""
    paths = key.allowed_paths
    return Principal(
        key_id=key.key_id,
        tags=key.tags,
        setting_ids=key.setting_ids,
        allowed_paths=None
        if not paths
        else frozenset((path.method.upper(), path.path) for path in paths),
        is_revoked=key.revoked,
        revoked_reason=key.revoked_reason,
        stores_request=key.stores_request,
        stores_response=key.stores_response,
        policy_id=key.policy_id,
    )


def _without(digests: dict[str, bytes], ids: Iterable[str]) -> list[bytes]:
    return [digests.pop(key_id) for key_id in ids if key_id in digests]


def apply(snapshot: Snapshot, changes: Changes, make_target: TargetMaker) -> Snapshot:
    """The next snapshot. A key whose hash changed loses its old digest.

    One setting that cannot be used must not keep the others, or a revocation, from taking effect:
    it is left out, loudly, and its keys are told that they have no provider setting.
    """
    if changes.is_full:
        principals: dict[bytes, Principal] = {}
        digests: dict[str, bytes] = {}
        targets: dict[str, Target] = {}
    else:
        principals = dict(snapshot.principal_by_digest)
        digests = dict(snapshot.digest_by_key_id)
        targets = dict(snapshot.target_by_setting)
    gone = changes.deleted_keys | {key.key_id for key in changes.keys}
    for digest in _without(digests, gone):
        principals.pop(digest, None)
    for key in changes.keys:
        digest = bytes.fromhex(key.key_hash)
        principals[digest] = principal_of(key)
        digests[key.key_id] = digest
    for setting_id in changes.deleted_settings:
        targets.pop(setting_id, None)
    for setting in changes.settings:
        targets.pop(setting.id, None)
        try:
            targets[setting.id] = make_target(setting)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it, it cannot be called
            # The kind only: the text of some errors holds what the setting holds.
            log.error(
                "configuration.setting_unusable id=%s error=%s", setting.id, type(error).__name__
            )
    return Snapshot(changes.revision, principals, digests, targets)
