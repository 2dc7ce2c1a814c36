"""A database as BricksLLM makes it, for imports."""

import asyncio
import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from support.servers import run_apart

SCHEMA = """
CREATE TABLE keys (
    name VARCHAR(255) NOT NULL, created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL,
    tags VARCHAR(255)[], revoked BOOLEAN NOT NULL, key_id VARCHAR(255) PRIMARY KEY,
    key VARCHAR(255) NOT NULL UNIQUE, revoked_reason VARCHAR(255), cost_limit_in_usd FLOAT8,
    cost_limit_in_usd_over_time FLOAT8, cost_limit_in_usd_unit VARCHAR(255),
    rate_limit_over_time INT, rate_limit_unit VARCHAR(255), ttl VARCHAR(255),
    setting_id VARCHAR(255), allowed_paths JSONB, setting_ids VARCHAR(255)[] NOT NULL DEFAULT '{}',
    should_log_request BOOLEAN NOT NULL DEFAULT FALSE,
    should_log_response BOOLEAN NOT NULL DEFAULT FALSE,
    rotation_enabled BOOLEAN NOT NULL DEFAULT FALSE, policy_id VARCHAR(255) NOT NULL DEFAULT '',
    is_key_not_hashed BOOLEAN NOT NULL DEFAULT FALSE);
CREATE TABLE provider_settings (
    id VARCHAR(255) PRIMARY KEY, created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL,
    provider VARCHAR(255) NOT NULL, setting JSONB NOT NULL, name VARCHAR(255) NOT NULL DEFAULT '',
    allowed_models VARCHAR(255)[], cost_map JSONB);
CREATE TABLE custom_providers (
    id VARCHAR(255) PRIMARY KEY, created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL,
    provider VARCHAR(255) NOT NULL UNIQUE, route_configs JSONB NOT NULL,
    authentication_param VARCHAR(255) NOT NULL);
CREATE TABLE routes (
    id VARCHAR(255) PRIMARY KEY, created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL,
    name VARCHAR(255) NOT NULL, path VARCHAR(255) NOT NULL, key_ids VARCHAR(255)[],
    steps JSONB NOT NULL, cache_config JSONB NOT NULL, request_format VARCHAR(255),
    retry_strategy VARCHAR(255));
CREATE TABLE policies (
    id VARCHAR(255) PRIMARY KEY, name VARCHAR(255), created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL, tags VARCHAR(255)[], config JSONB, regex_config JSONB,
    custom_config JSONB);
CREATE TABLE users (
    id VARCHAR(255) PRIMARY KEY, name VARCHAR(255) NOT NULL, created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL, tags VARCHAR(255)[], revoked BOOLEAN NOT NULL,
    revoked_reason VARCHAR(255), cost_limit_in_usd FLOAT8, cost_limit_in_usd_over_time FLOAT8,
    cost_limit_in_usd_unit VARCHAR(255), rate_limit_over_time INT, rate_limit_unit VARCHAR(255),
    ttl VARCHAR(255), key_ids VARCHAR(255)[], allowed_paths JSONB, allowed_models VARCHAR(255)[],
    user_id VARCHAR(255) NOT NULL);
CREATE TABLE events (event_id VARCHAR(255) PRIMARY KEY, created_at BIGINT NOT NULL);
"""
"""Columns in BricksLLM's order, which is that of its releases."""

DEFAULTS: dict[str, dict[str, Any]] = {
    "keys": {"name": "k", "revoked": False},
    "provider_settings": {"provider": "openai", "setting": {"apikey": "sk-source"}},
    "custom_providers": {"authentication_param": ""},
    "routes": {"name": "r", "cache_config": {"enabled": False, "ttl": ""}},
    "policies": {"config": {}, "regex_config": {}, "custom_config": {}},
    "users": {"name": "u", "revoked": False},
}


class BricksDatabase:
    """Connect with `url`."""

    def __init__(self, url: str) -> None:
        self.url = url

    def execute(self, statement: str, *arguments: object) -> None:
        """One statement, or several without arguments."""
        run_apart(_execute(self.url, statement, *arguments))

    def insert(self, table: str, **columns: object) -> None:
        """A row; objects, and lists of them, as JSON, times as of some day."""
        row = {"created_at": 1_700_000_000, "updated_at": 1_700_000_500} | DEFAULTS[table] | columns
        places = ", ".join(f"${i}" for i in range(1, len(row) + 1))
        self.execute(
            f"INSERT INTO {table} ({', '.join(row)}) VALUES ({places})",
            *(_sql(value) for value in row.values()),
        )


@contextmanager
def bricks_database(server_url: str, schema: str = SCHEMA) -> Iterator[BricksDatabase]:
    """A database of this server's, until the end of the block."""
    name = f"bricks_{secrets.token_hex(6)}"
    parts = urlsplit(server_url)
    base = urlunsplit(parts._replace(path="/postgres"))
    run_apart(_execute(base, f"CREATE DATABASE {name} TEMPLATE template0"))
    database = BricksDatabase(urlunsplit(parts._replace(path=f"/{name}")))
    database.execute(schema)
    yield database
    run_apart(_execute(base, f"DROP DATABASE {name} WITH (FORCE)"))


def _sql(value: object) -> object:
    is_document = isinstance(value, dict) or (
        isinstance(value, list) and value and isinstance(value[0], dict)
    )
    return json.dumps(value) if is_document else value


async def _execute(url: str, statement: str, *arguments: object) -> None:
    connection = await asyncpg.connect(url, timeout=60)
    try:
        async with asyncio.timeout(60):
            await connection.execute(statement, *arguments)
    finally:
        await connection.close()
