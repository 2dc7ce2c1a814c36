"""Implements the stores of the administration over Postgres; every write is announced."""

from typing import Any

import asyncpg
import msgspec

from gateway.adapters.postgres_config import PostgresConfiguration
from gateway.administration.invalid import Conflict, Invalid
from gateway.administration.keys import StoredKey
from gateway.administration.provider_settings import StoredProviderSetting


def _setting_of(row: Any) -> StoredProviderSetting:
    return StoredProviderSetting(
        id=row["id"],
        provider=row["provider"],
        name=row["name"],
        setting=row["setting"],
        allowed_models=list(row["allowed_models"]),
        cost_map=row["cost_map"],
        usage_on_streams=row["usage_on_streams"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


class PostgresAdministration:
    """Implements SettingStore and KeyStore."""

    def __init__(self, configuration: PostgresConfiguration) -> None:
        self._configuration = configuration

    async def create_setting(self, setting: StoredProviderSetting) -> None:
        """The setting and its first revision, in one transaction."""
        async with self._configuration.write() as (connection, revision):
            await connection.execute(
                "INSERT INTO provider_settings (id, provider, name, setting, allowed_models,"
                " cost_map, usage_on_streams, created_at, updated_at, revision)"
                " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
                setting.id,
                setting.provider,
                setting.name,
                setting.setting,
                setting.allowed_models,
                setting.cost_map,
                setting.usage_on_streams,
                setting.created_at,
                setting.updated_at,
                revision,
            )
            await connection.execute(
                "INSERT INTO provider_setting_revisions (id, revision, provider, name,"
                " allowed_models, cost_map, usage_on_streams, changed_at)"
                " VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
                setting.id,
                revision,
                setting.provider,
                setting.name,
                setting.allowed_models,
                setting.cost_map,
                setting.usage_on_streams,
                setting.updated_at,
            )

    async def settings(self, ids: list[str]) -> list[StoredProviderSetting]:
        """Those with these ids, in their order; all, oldest first, when none are given."""
        async with self._configuration.read() as connection:
            if not ids:
                rows = await connection.fetch(
                    "SELECT * FROM provider_settings ORDER BY created_at, id"
                )
                return [_setting_of(row) for row in rows]
            rows = await connection.fetch("SELECT * FROM provider_settings WHERE id = ANY($1)", ids)
        found = {row["id"]: _setting_of(row) for row in rows}
        return [found[setting_id] for setting_id in ids if setting_id in found]

    async def create_key(self, key: StoredKey) -> None:
        """The key, checked against the settings it names within the same transaction."""
        new = key.new
        setting_ids = new.setting_ids or [new.setting_id]
        paths = (
            None
            if new.allowed_paths is None
            else [msgspec.to_builtins(path) for path in new.allowed_paths]
        )
        async with self._configuration.write() as (connection, revision):
            known = await connection.fetchval(
                "SELECT count(*) FROM provider_settings WHERE id = ANY($1)", setting_ids
            )
            if known != len(setting_ids):
                raise Invalid(
                    "provider setting is not found"
                    if new.setting_id
                    else "not all settings are found"
                )
            try:
                await connection.execute(
                    "INSERT INTO api_keys (key_id, key_hash, shown_key, name, tags, setting_ids,"
                    " setting_id, allowed_paths, revoked, revoked_reason, cost_limit_in_usd,"
                    " cost_limit_in_usd_over_time, cost_limit_in_usd_unit, rate_limit_over_time,"
                    " rate_limit_unit, ttl, should_log_request, should_log_response,"
                    " rotation_enabled, policy_id, is_key_not_hashed, created_at, updated_at,"
                    " revision) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13,"
                    " $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24)",
                    key.key_id,
                    key.key_hash,
                    key.shown_key,
                    new.name,
                    new.tags or [],
                    setting_ids,
                    new.setting_id,
                    paths,
                    key.revoked,
                    key.revoked_reason,
                    new.cost_limit_in_usd,
                    new.cost_limit_in_usd_over_time,
                    new.cost_limit_in_usd_unit,
                    new.rate_limit_over_time,
                    new.rate_limit_unit,
                    new.ttl,
                    new.should_log_request,
                    new.should_log_response,
                    new.rotation_enabled,
                    new.policy_id,
                    new.is_key_not_hashed,
                    key.created_at,
                    key.updated_at,
                    revision,
                )
            except asyncpg.UniqueViolationError:
                raise Conflict("the key is already in use (key_uniqueness)") from None
