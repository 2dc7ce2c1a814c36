"""Turns the rows of a BricksLLM database into configuration, by the rules of the admin API."""

import re
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from typing import Any, Final

import msgspec

from contracts.config.keys import ApiKey
from contracts.config.policies import Policy
from contracts.config.provider_settings import CustomProvider, ProviderSetting
from contracts.config.routes import Route
from contracts.config.users import User
from gateway.administration import custom_providers, key_rules, policies, routes, users
from gateway.administration.bricksllm_rows import (
    CustomProviderRow,
    KeyRow,
    PolicyRow,
    ProviderSettingRow,
    Remark,
    RouteRow,
    UserRow,
    limits_as_sent,
    limits_as_stored,
    read_rows,
)
from gateway.administration.custom_providers_wire import NewCustomProvider
from gateway.administration.invalid import Invalid
from gateway.administration.keys_wire import NewKey
from gateway.administration.policies_wire import NewPolicy
from gateway.administration.provider_settings import SettingMeans, take_over
from gateway.administration.provider_settings_wire import NewProviderSetting
from gateway.administration.route_rules import check as check_route
from gateway.administration.routes_wire import NewRoute
from gateway.administration.users_wire import NewUser
from gateway.ports import SealBroken, SealUnavailable

ENCRYPTED_MEMBER: Final = "apikey"
"""What BricksLLM encrypts of a setting, of every provider but Bedrock."""

_is_sha256: Final = re.compile(r"[0-9a-f]{64}").fullmatch

Advance = Callable[[], None]


class Taken(msgspec.Struct):
    """What can be taken over, by id; nothing is sealed yet, `secrets` are by id of the setting."""

    custom_providers: dict[str, CustomProvider] = {}
    provider_settings: dict[str, ProviderSetting] = {}
    policies: dict[str, Policy] = {}
    keys: dict[str, ApiKey] = {}
    users: dict[str, User] = {}
    routes: dict[str, Route] = {}
    secrets: dict[str, dict[str, str]] = {}
    invalid: list[Remark] = []
    notes: list[Remark] = []


class Means(msgspec.Struct, frozen=True):
    """What rows are checked with. `is_encrypted` says that secrets are, by the two endpoints."""

    settings: SettingMeans
    is_encrypted: bool
    advance: Advance


async def take(tables: Mapping[str, list[str]], means: Means) -> Taken:
    """Everything that can be taken over, and what is wrong with the rest.

    `tables` are JSON objects, one a row, by table.
    """
    taking = _Taking(tables, means)
    await taking.each("custom_providers", CustomProviderRow, taking.custom_provider)
    await taking.each("provider_settings", ProviderSettingRow, taking.provider_setting)
    await taking.each("policies", PolicyRow, taking.policy)
    await taking.each("keys", KeyRow, taking.key)
    await taking.each("users", UserRow, taking.user)
    await taking.each("routes", RouteRow, taking.route)
    return taking.taken


class _Taking:
    """One pass over the tables, each after those that its rows refer to."""

    def __init__(self, tables: Mapping[str, list[str]], means: Means) -> None:
        self.taken = Taken()
        self._tables = tables
        self._means = means
        self._custom_by_name: dict[str, CustomProvider] = {}
        self._id_by_hash: dict[str, str] = {}
        self._id_by_path: dict[str, str] = {}

    async def each(
        self, table: str, kind: type[Any], take_row: Callable[[Any], Awaitable[None]]
    ) -> None:
        rows = read_rows(table, self._tables.get(table, []), kind)
        self.taken.invalid += rows.bad
        for row in rows.good:
            row_id = row.key_id if table == "keys" else row.id
            try:
                if not row_id:
                    raise Invalid("it has no id")
                await take_row(row)
            except Invalid as error:
                self.taken.invalid.append(Remark(table, row_id, str(error)))
            self._means.advance()

    async def custom_provider(self, row: CustomProviderRow) -> None:
        new = NewCustomProvider(
            provider=row.provider,
            route_configs=row.route_configs,
            authentication_param=row.authentication_param,
        )
        await custom_providers.check(new, self._means.settings.check_url)
        made = custom_providers.provider_of(row.id, new, created_at=row.created_at)
        other = self._custom_by_name.setdefault(made.provider, made)
        if other is not made:
            raise Invalid(f"custom provider {other.id} has the same name")
        self.taken.custom_providers[row.id] = _at(made, row.updated_at)

    async def provider_setting(self, row: ProviderSettingRow) -> None:
        new = NewProviderSetting(
            provider=row.provider,
            setting=await self._decrypted(row),
            name=row.name,
            allowed_models=row.allowed_models,
            cost_map=row.cost_map,
        )
        made, secrets = await take_over(
            row.id,
            new,
            self._custom_by_name.get(row.provider.lower()),
            row.created_at,
            self._means.settings,
        )
        known = self._means.settings.providers.get(made.provider)
        if known is not None and not known.auth:
            text = f"is kept, but no call goes to {made.provider}"
            self.taken.notes.append(Remark("provider_settings", row.id, text))
        self.taken.provider_settings[row.id] = _at(made, row.updated_at)
        self.taken.secrets[row.id] = secrets

    async def _decrypted(self, row: ProviderSettingRow) -> dict[str, str]:
        encrypted = row.setting.get(ENCRYPTED_MEMBER)
        if not (self._means.is_encrypted and encrypted) or row.provider == "bedrock":
            return row.setting
        content = msgspec.json.encode({ENCRYPTED_MEMBER: encrypted}).decode()
        try:
            return row.setting | await self._means.settings.sealer.unseal(
                f"external {row.updated_at or row.created_at} {content}", row.id
            )
        except (SealBroken, SealUnavailable) as error:
            raise Invalid(f"its secrets cannot be decrypted: {error}") from None

    async def policy(self, row: PolicyRow) -> None:
        new = NewPolicy(
            name=row.name,
            tags=row.tags,
            config=row.config,
            regex_config=row.regex_config,
            custom_config=row.custom_config,
        )
        made = policies.policy_of(row.id, new, created_at=row.created_at)
        self.taken.policies[row.id] = _at(made, row.updated_at)

    async def key(self, row: KeyRow) -> None:
        named = list(
            dict.fromkeys([*([row.setting_id] if row.setting_id else []), *row.setting_ids])
        )
        key_rules.check(
            NewKey(key=row.key, setting_ids=named, policy_id=row.policy_id, **limits_as_sent(row))
        )
        key_hash, shown_key = self._key_texts(row)
        other = self._id_by_hash.setdefault(key_hash, row.key_id)
        if other != row.key_id:
            raise Invalid(f"it is the same key as {other}")
        known = tuple(one for one in named if one in self.taken.provider_settings)
        for lost in sorted(set(named) - set(known)):
            self._note(
                "keys", row.key_id, f"loses provider setting {lost}, which is not taken over"
            )
        policy_id = row.policy_id
        if policy_id and policy_id not in self.taken.policies:
            if any((one.table, one.id) == ("policies", policy_id) for one in self.taken.invalid):
                raise Invalid(f"its policy {policy_id} cannot be taken over")
            self._note(
                "keys", row.key_id, f"has policy {policy_id}, which does not exist: now none"
            )
            policy_id = ""
        self.taken.keys[row.key_id] = ApiKey(
            key_id=row.key_id,
            key_hash=key_hash,
            shown_key=shown_key,
            is_key_not_hashed=bool(shown_key),
            setting_ids=known,
            setting_id=row.setting_id if known == (row.setting_id,) else "",
            rotation_enabled=row.rotation_enabled,
            should_log_request=row.should_log_request,
            should_log_response=row.should_log_response,
            policy_id=policy_id,
            **limits_as_stored(row),
        )

    def _key_texts(self, row: KeyRow) -> tuple[str, str]:
        """Its SHA-256, and the key itself when it is to be shown.

        BricksLLM looks for a key by its SHA-256 first and as it is then: what is no SHA-256 can
        only be the key.
        """
        if _is_sha256(row.key) and not row.is_key_not_hashed:
            return row.key, ""
        if _is_sha256(row.key):
            self._note(
                "keys",
                row.key_id,
                "is marked as not hashed, but looks like a SHA-256; it is taken as the key itself",
            )
        shown = row.key if row.is_key_not_hashed else ""
        return sha256(row.key.encode()).hexdigest(), shown

    async def user(self, row: UserRow) -> None:
        if not row.user_id:
            raise Invalid("fields [userId] are invalid")
        users.check(
            NewUser(
                user_id=row.user_id,
                key_ids=row.key_ids,
                allowed_models=row.allowed_models,
                **limits_as_sent(row),
            )
        )
        if row.key_ids:
            self._note("users", row.id, "may call with its keyIds only, from now on")
        models = row.allowed_models
        self.taken.users[row.id] = User(
            id=row.id,
            user_id=row.user_id,
            key_ids=tuple(row.key_ids),
            allowed_models=None if models is None else tuple(models),
            **limits_as_stored(row),
        )

    async def route(self, row: RouteRow) -> None:
        new = NewRoute(
            name=row.name,
            path=row.path,
            key_ids=row.key_ids,
            steps=row.steps,
            cache_config=row.cache_config,
            retry_strategy=row.retry_strategy,
            request_format=row.request_format,
        )
        check_route(new, routes.dialects(self._means.settings.providers), "")
        other = self._id_by_path.setdefault(row.path, row.id)
        if other != row.id:
            raise Invalid(f"route {other} has the same path")
        new.key_ids = [one for one in row.key_ids if one in self.taken.keys]
        for lost in sorted(set(row.key_ids) - set(new.key_ids)):
            self._note("routes", row.id, f"loses key {lost}, which is not taken over")
        self.taken.routes[row.id] = routes.route_of(
            row.id, new, created_at=row.created_at, updated_at=row.updated_at or row.created_at
        )

    def _note(self, table: str, row_id: str, text: str) -> None:
        self.taken.notes.append(Remark(table, row_id, text))


def _at(made: Any, updated_at: int) -> Any:
    return msgspec.structs.replace(made, updated_at=updated_at) if updated_at else made
