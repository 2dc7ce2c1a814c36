"""Provider settings: where and as whom to call a provider.

Looking names up and asking an endpoint to encrypt may take seconds, so both are done before the
transaction, which keeps every other writer waiting; what may have changed meanwhile is looked at
again within it.
"""

import time
from typing import Final

import msgspec

from contracts.config.keys import ApiKey
from contracts.config.provider_settings import CustomProvider, ModelAlias, ProviderSetting
from contracts.ids import new_id, to_text
from gateway.administration.invalid import Invalid, NotFound
from gateway.administration.provider_setting_rules import (
    SHOWN_MEMBERS,
    check_members,
    check_required,
    checked_cost_map,
    checked_models,
    checked_name,
    checked_share,
    checked_usage,
    host_of,
)
from gateway.administration.provider_settings_wire import (
    NewProviderSetting,
    ProviderSettingChange,
)
from gateway.administration.store import Change, Query, Reading, Store, may_redirect
from gateway.ports import CheckUpstreamUrl, SealBroken, Sealer, SealUnavailable
from gateway.values import Provider

KEYS_CHANGED_MAX: Final = 10_000
"""Keys that one forced deletion may take a setting from: they are written in one transaction."""


class SettingMeans(msgspec.Struct, frozen=True):
    """What settings are checked and sealed with. `providers` are the known ones, by name."""

    sealer: Sealer
    providers: dict[str, Provider]
    check_url: CheckUpstreamUrl


class _Kind(msgspec.Struct, frozen=True):
    """The provider's name as it is stored, and the members of `setting` that may be shown.

    `credential` is the member that its operator named, `local_base` a default address on this
    machine.
    """

    name: str
    shown: frozenset[str]
    credential: str = "apikey"
    local_base: str = ""


async def create(
    new: NewProviderSetting, store: Store, actor: str, means: SettingMeans
) -> ProviderSetting:
    """Raises Invalid, SealUnavailable, StoreUnavailable."""
    if not new.provider:
        raise Invalid("provider field cannot be empty")
    given = new.setting or {}
    async with store.read() as reading:
        kind = await _check_provider(new.provider, given, reading, means)
    setting_id = to_text(new_id())
    setting, secrets = await _checked(setting_id, new, kind, int(time.time()), means)
    sealed = await means.sealer.seal(secrets, setting_id)
    async with store.change(actor) as change:
        await _check_provider(kind.name, given, change, means)
        if not means.sealer.is_current(sealed):
            sealed = await means.sealer.seal(secrets, setting_id)
        setting = msgspec.structs.replace(setting, sealed=sealed)
        await change.put(setting_id, setting)
    return setting


async def take_over(
    setting_id: str,
    new: NewProviderSetting,
    custom: CustomProvider | None,
    created_at: int,
    means: SettingMeans,
) -> tuple[ProviderSetting, dict[str, str]]:
    """One that was made elsewhere, with nothing sealed yet, and its secrets. Raises Invalid.

    `custom` is what is known of its provider when that is a custom one.
    """
    kind = _kind(new.provider, new.setting or {}, custom, means)
    return await _checked(setting_id, new, kind, created_at, means)


async def _checked(
    setting_id: str, new: NewProviderSetting, kind: _Kind, created_at: int, means: SettingMeans
) -> tuple[ProviderSetting, dict[str, str]]:
    given = new.setting or {}
    await _check_setting(given, kind, means)
    if kind.local_base and not given.get("url"):
        await means.check_url(kind.local_base)
    shown, secrets = _parted(given, kind)
    setting = ProviderSetting(
        id=setting_id,
        provider=kind.name,
        name=checked_name(new.name or ""),
        setting=shown,
        allowed_models=checked_models(new.allowed_models or []),
        cost_map=checked_cost_map(new.cost_map),
        usage_on_streams=checked_usage(new.usage_on_streams or "ask"),
        weight=1 if new.weight is None else checked_share("weight", new.weight, 1),
        priority=checked_share("priority", new.priority or 0, 0),
        created_at=created_at,
        updated_at=created_at,
    )
    return setting, secrets


async def patch(
    setting_id: str, sent: ProviderSettingChange, store: Store, actor: str, means: SettingMeans
) -> ProviderSetting:
    """Merged over what is stored. Raises NotFound, Invalid, SealUnavailable, StoreUnavailable."""
    if not sent.setting:
        async with store.change(actor) as change:
            existing = await get(setting_id, change)
            return await _put(existing, existing.setting, existing.sealed, sent, change)
    async with store.read() as reading:
        seen = await get(setting_id, reading)
        kind = await _check_provider(seen.provider, sent.setting, reading, means)
    await _check_setting(sent.setting, kind, means)
    if not may_redirect(actor):
        await _check_host(seen, sent.setting, kind, means.sealer)
    sealed = await _resealed(seen, sent.setting, kind, means.sealer)
    async with store.change(actor) as change:
        existing = await get(setting_id, change)
        if existing.sealed != seen.sealed or not means.sealer.is_current(sealed):
            if not may_redirect(actor):
                await _check_host(existing, sent.setting, kind, means.sealer)
            sealed = await _resealed(existing, sent.setting, kind, means.sealer)
        merged, _ = _parted(existing.setting | sent.setting, kind)
        return await _put(existing, merged, sealed, sent, change)


async def _put(
    existing: ProviderSetting,
    shown: dict[str, str],
    sealed: str,
    sent: ProviderSettingChange,
    change: Change,
) -> ProviderSetting:
    setting = msgspec.structs.replace(
        existing, setting=shown, sealed=sealed, updated_at=int(time.time()), **_changed(sent)
    )
    await change.put(setting.id, setting)
    return setting


async def get(setting_id: str, reading: Reading) -> ProviderSetting:
    """Raises NotFound."""
    setting = await reading.get(ProviderSetting, setting_id)
    if setting is None:
        raise NotFound(f"provider setting is not found for id: {setting_id}")
    return setting


async def find(ids: list[str], reading: Reading) -> list[ProviderSetting]:
    """Those with the ids, in their order; all without ids. Raises NotFound for an unknown one."""
    if not ids:
        return await reading.find(ProviderSetting)
    found = await reading.find(ProviderSetting, Query(ids=tuple(dict.fromkeys(ids))))
    by_id = {setting.id: setting for setting in found}
    for setting_id in ids:
        if setting_id not in by_id:
            raise NotFound(f"provider setting is not found for id: {setting_id}")
    return [by_id[setting_id] for setting_id in ids]


async def delete(setting_id: str, is_forced: bool, change: Change) -> None:
    """Raises NotFound; Invalid while it is in use, unless forced: then its users lose it."""
    await get(setting_id, change)
    with_setting = Query(any_of={"setting_ids": (setting_id,)})
    of_setting = Query(holds={"setting_id": setting_id})
    keys = await change.count(ApiKey, with_setting)
    aliases = await change.count(ModelAlias, of_setting)
    if (keys or aliases) and not is_forced:
        raise Invalid(
            f"{keys} keys and {aliases} model aliases use the provider setting;"
            " take it from them first or add force=true"
        )
    if keys > KEYS_CHANGED_MAX:
        raise Invalid(
            f"{keys} keys use the provider setting; no more than {KEYS_CHANGED_MAX} can lose it"
            " at once, take it from some of them first"
        )
    now = int(time.time())
    for key in await change.find(ApiKey, with_setting):
        left = tuple(one for one in key.setting_ids if one != setting_id)
        only = "" if key.setting_id == setting_id else key.setting_id
        lessened = msgspec.structs.replace(key, setting_ids=left, setting_id=only, updated_at=now)
        await change.put(key.key_id, lessened)
    for alias in await change.find(ModelAlias, of_setting):
        await change.put(alias.id, msgspec.structs.replace(alias, setting_id="", updated_at=now))
    await change.delete(ProviderSetting, setting_id)


async def _check_provider(
    name: str, given: dict[str, str], reading: Reading, means: SettingMeans
) -> _Kind:
    """What it is, when `given` holds all that it needs. Raises Invalid."""
    customs: list[CustomProvider] = []
    if name not in means.providers:
        customs = await reading.find(CustomProvider, Query(holds={"provider": name.lower()}))
    return _kind(name, given, customs[0] if customs else None, means)


def _kind(
    name: str, given: dict[str, str], custom: CustomProvider | None, means: SettingMeans
) -> _Kind:
    provider = means.providers.get(name)
    if provider is not None:
        check_required(name, provider.required, given)
        is_local = provider.base.startswith("http://")
        return _Kind(name, SHOWN_MEMBERS, local_base=provider.base if is_local else "")
    if custom is None:
        raise Invalid(f"provider {name} is not supported")
    param = custom.authentication_param
    if param and not given.get(param):
        raise Invalid(f"provider {name} is missing value for field {param}")
    # Its operator chose the name of its credential: any member may be one.
    return _Kind(custom.provider, frozenset(), credential=param)


async def _check_setting(given: dict[str, str], kind: _Kind, means: SettingMeans) -> None:
    check_members({name: value for name, value in given.items() if value}, kind.credential)
    if given.get("url"):
        try:
            await means.check_url(given["url"])
        except Invalid as error:
            raise Invalid(f"setting.url: {error}") from None


async def _check_host(
    existing: ProviderSetting, given: dict[str, str], kind: _Kind, sealer: Sealer
) -> None:
    """Raises Invalid when a stored credential would be shown to a host that never had it.

    A provider's address is with its paths where an operator described it, and where it is made of
    other members than `url` the credential is required with them.
    """
    url = given.get("url")
    if url is None or kind.credential in given or not kind.shown or not existing.sealed:
        return
    if host_of(url) == host_of(existing.setting.get("url", "")):
        return
    if kind.credential in await sealer.unseal(existing.sealed, existing.id):
        raise Invalid(
            f"setting.url leads to another host: send setting.{kind.credential} with it again,"
            " an admin token cannot send what is stored there"
        )


def _parted(values: dict[str, str], kind: _Kind) -> tuple[dict[str, str], dict[str, str]]:
    """What may be shown, and the secrets. An empty value is none."""
    held = {name: value for name, value in values.items() if value}
    shown = {name: value for name, value in held.items() if name in kind.shown}
    return shown, {name: value for name, value in held.items() if name not in kind.shown}


async def _resealed(
    existing: ProviderSetting, given: dict[str, str], kind: _Kind, sealer: Sealer
) -> str:
    """The stored secrets with the given ones in their place.

    What can no longer be unsealed is replaced by secrets that are given: else a lost key could
    only be mended by making every setting, and every key that uses it, anew.
    """
    stored: dict[str, str] = {}
    _, given_secrets = _parted(given, kind)
    try:
        stored = await sealer.unseal(existing.sealed, existing.id)
    except SealUnavailable:
        if not given_secrets:
            raise
    except SealBroken:
        if not given_secrets:
            raise Invalid("its secrets can no longer be read: send them too") from None
    _, secrets = _parted(stored | given, kind)
    return await sealer.seal(secrets, existing.id)


def _changed(sent: ProviderSettingChange) -> dict[str, object]:
    """The members besides `setting` that a patch replaces. Raises Invalid."""
    changed: dict[str, object] = {}
    if sent.name is not None:
        changed["name"] = checked_name(sent.name)
    if sent.allowed_models is not None:
        changed["allowed_models"] = checked_models(sent.allowed_models)
    if sent.cost_map is not None:
        changed["cost_map"] = checked_cost_map(sent.cost_map)
    if sent.usage_on_streams is not None:
        changed["usage_on_streams"] = checked_usage(sent.usage_on_streams)
    if sent.weight is not None:
        changed["weight"] = checked_share("weight", sent.weight, 1)
    if sent.priority is not None:
        changed["priority"] = checked_share("priority", sent.priority, 0)
    return changed
