"""Client keys: who may call, with which provider settings, up to which limits."""

import time
from collections.abc import Sequence
from hashlib import sha256
from typing import Any, Final, cast

import msgspec

from contracts.client_keys import ClientKey, new_client_key, public_id_of
from contracts.config.keys import AllowedPath, ApiKey, Balancing, HoldPolicy
from contracts.config.policies import Policy
from contracts.config.provider_settings import ProviderSetting
from contracts.ids import new_id, to_text
from gateway.administration.invalid import Conflict, Invalid, NotFound
from gateway.administration.key_rules import (
    CREATION,
    KIND,
    UPDATE,
    check,
    check_change,
    check_query,
)
from gateway.administration.keys_wire import KeyChange, KeyFilter, KeysQuery, NewKey
from gateway.administration.limit_lists import cost_limits_of, rate_limits_of, token_limits_of
from gateway.administration.limit_rules import NewAllowedPath
from gateway.administration.store import Change, Query, Reading

_PLAIN_MEMBERS: Final = (
    "cost_limit_in_usd",
    "cost_limit_in_usd_over_time",
    "cost_limit_in_usd_unit",
    "rate_limit_over_time",
    "rate_limit_unit",
    "should_log_request",
    "should_log_response",
    "rotation_enabled",
    "policy_id",
    "hold_policy",
    "balancing",
    "allow_unmetered_paths",
)
"""What a change replaces as it is."""


async def create(new: NewKey, change: Change) -> tuple[ApiKey, str]:
    """The new key, and its text when it was generated: nobody can read that again.

    Raises Invalid.
    """
    check(new)
    setting_ids = tuple(new.setting_ids or [new.setting_id])
    await _check_settings(new, setting_ids, change, CREATION)
    if new.policy_id:
        await _check_policy(new.policy_id, change, CREATION)
    made = new_client_key() if new.key is None else ClientKey(new.key, public_id_of(new.key) or "")
    now = int(time.time())
    key = ApiKey(
        key_id=to_text(new_id()),
        key_hash=sha256(made.text.encode()).hexdigest(),
        shown_key=made.text if new.is_key_not_hashed else "",
        public_id=made.public_id,
        is_key_not_hashed=new.is_key_not_hashed,
        name=new.name,
        created_at=now,
        updated_at=now,
        tags=tuple(new.tags or ()),
        setting_ids=setting_ids,
        setting_id=new.setting_id,
        ttl=new.ttl,
        expires_at=new.expires_at or None,
        allowed_paths=_paths(new.allowed_paths),
        allowed_models=tuple(new.allowed_models or ()) or None,
        allow_unmetered_paths=bool(new.allow_unmetered_paths),
        cost_limit_in_usd=new.cost_limit_in_usd,
        cost_limit_in_usd_over_time=new.cost_limit_in_usd_over_time,
        cost_limit_in_usd_unit=new.cost_limit_in_usd_unit,
        rate_limit_over_time=new.rate_limit_over_time,
        rate_limit_unit=new.rate_limit_unit,
        rate_limits=rate_limits_of(new.rate_limits),
        cost_limits=cost_limits_of(new.cost_limits),
        token_limits=token_limits_of(new.token_limits),
        concurrency_limit=new.concurrency_limit or None,
        hold_policy=cast(HoldPolicy, new.hold_policy or ""),
        balancing=cast(Balancing, new.balancing or ""),
        rotation_enabled=new.rotation_enabled,
        should_log_request=new.should_log_request,
        should_log_response=new.should_log_response,
        policy_id=new.policy_id,
    )
    try:
        await change.put(key.key_id, key)
    except Conflict as error:
        raise Invalid(
            f'duplicate key value violates unique constraint "{error.constraint}"',
            kind=KIND,
            title=CREATION,
        ) from None
    return key, made.text if new.key is None else ""


async def patch(key_id: str, sent: KeyChange, change: Change) -> ApiKey:
    """The one with this id, changed. Raises Invalid, NotFound."""
    check_change(sent)
    key = await change.get(ApiKey, key_id)
    if key is None:
        raise NotFound(f"key is not found for id: {key_id}")
    setting_ids = tuple(sent.setting_ids or ([sent.setting_id] if sent.setting_id else ()))
    if setting_ids:
        await _check_settings(sent, setting_ids, change, UPDATE)
    if sent.policy_id:
        await _check_policy(sent.policy_id, change, UPDATE)
    changed = _changed(key, sent, setting_ids)
    await change.put(key_id, changed)
    return changed


async def delete(key_id: str, change: Change) -> None:
    """The one with this id is no longer there, if it was."""
    await change.delete(ApiKey, key_id)


async def find(wanted: KeyFilter, reading: Reading) -> list[ApiKey]:
    """Oldest first. Raises Invalid when nothing says which."""
    if not (wanted.tags or wanted.key_ids or wanted.provider):
        raise Invalid(
            "one of tag, tags, provider and keyIds is required",
            kind="missing-filteres",
            title="filters are not found",
        )
    any_of: dict[str, tuple[str, ...]] = {}
    if wanted.provider:
        settings = await reading.find(ProviderSetting, Query(holds={"provider": wanted.provider}))
        any_of["setting_ids"] = tuple(setting.id for setting in settings)
    return await reading.find(
        ApiKey,
        Query(
            ids=wanted.key_ids or None,
            holds={"tags": wanted.tags} if wanted.tags else {},
            any_of=any_of,
        ),
    )


async def find_page(query: KeysQuery, reading: Reading) -> tuple[list[ApiKey], int]:
    """The keys, and how many match in all, 0 unless that was asked for. Raises Invalid."""
    check_query(query)
    wanted = Query(
        ids=tuple(query.key_ids or ()) or None,
        holds=({"tags": tuple(query.tags)} if query.tags else {})
        | ({"revoked": True} if query.revoked else {}),
        # A member that has its default is not stored.
        lacks={"revoked": True} if query.revoked is False else {},
        name_contains=query.name or "",
        newest_first=query.order != "asc",
        limit=query.limit,
        offset=query.offset if query.limit else 0,
    )
    found = await reading.find(ApiKey, wanted)
    return found, await reading.count(ApiKey, wanted) if query.return_count else 0


async def _check_settings(
    sent: NewKey | KeyChange, setting_ids: tuple[str, ...], reading: Reading, title: str
) -> None:
    """Raises Invalid when one is unknown, or named twice."""
    if await reading.count(ProviderSetting, Query(ids=setting_ids)) != len(setting_ids):
        raise Invalid(
            "provider setting is not found" if sent.setting_id else "not all settings are found",
            kind=KIND,
            title=title,
        )


async def _check_policy(policy_id: str, reading: Reading, title: str) -> None:
    if await reading.get(Policy, policy_id) is None:
        raise Invalid(f"policy is not found for id: {policy_id}", kind=KIND, title=title)


def _paths(paths: Sequence[NewAllowedPath] | None) -> tuple[AllowedPath, ...] | None:
    if paths is None:
        return None
    return tuple(AllowedPath(path.path, path.method.upper()) for path in paths)


def _changed(key: ApiKey, sent: KeyChange, setting_ids: tuple[str, ...]) -> ApiKey:
    members: dict[str, Any] = {
        name: value for name in _PLAIN_MEMBERS if (value := getattr(sent, name)) is not None
    }
    if sent.name:
        members["name"] = sent.name
    if sent.tags:
        members["tags"] = tuple(sent.tags)
    if setting_ids:
        members |= {"setting_ids": setting_ids, "setting_id": sent.setting_id}
    if sent.allowed_paths is not None:
        members["allowed_paths"] = _paths(sent.allowed_paths)
    if sent.revoked is not None:
        # A reason comes and goes with the revocation.
        reason = sent.revoked_reason or key.revoked_reason
        members |= {"revoked": sent.revoked, "revoked_reason": reason if sent.revoked else ""}
    if sent.is_key_not_hashed is False:
        # The other way there is nothing to show: the key itself was not kept.
        members |= {"is_key_not_hashed": False, "shown_key": ""}
    if sent.expires_at is not None:
        members["expires_at"] = sent.expires_at or None
    if sent.allowed_models is not None:
        members["allowed_models"] = tuple(sent.allowed_models) or None
    if sent.rate_limits is not None:
        members["rate_limits"] = rate_limits_of(sent.rate_limits)
    if sent.cost_limits is not None:
        members["cost_limits"] = cost_limits_of(sent.cost_limits)
    if sent.token_limits is not None:
        members["token_limits"] = token_limits_of(sent.token_limits)
    if sent.concurrency_limit is not None:
        members["concurrency_limit"] = sent.concurrency_limit or None
    return msgspec.structs.replace(key, updated_at=int(time.time()), **members)
