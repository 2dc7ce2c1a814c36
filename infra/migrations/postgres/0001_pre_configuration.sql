-- Configuration: keys and provider settings. Non-blocking: creates only what is not there.
--
-- Every write takes the next revision under one advisory lock, so revisions become visible in
-- order and a reader that asks for "everything after r" misses nothing. A deletion leaves a
-- tombstone with its revision for the same reason.
CREATE SEQUENCE IF NOT EXISTS configuration_revision;

CREATE TABLE IF NOT EXISTS provider_settings
(
    id text PRIMARY KEY,
    provider text NOT NULL,
    name text NOT NULL DEFAULT '',
    setting jsonb NOT NULL,
    allowed_models text[] NOT NULL DEFAULT '{}',
    -- JSON text as it was sent: prices are decimal text, and jsonb would keep numeric but not the
    -- bytes that a revision promises.
    cost_map text,
    usage_on_streams text NOT NULL DEFAULT 'ask' CHECK (usage_on_streams IN ('ask', 'never')),
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    revision bigint NOT NULL
);
CREATE INDEX IF NOT EXISTS provider_settings_revision ON provider_settings (revision);

-- Immutable: what a setting (and its cost map) was at a revision, without its secrets.
CREATE TABLE IF NOT EXISTS provider_setting_revisions
(
    id text NOT NULL,
    revision bigint NOT NULL,
    provider text NOT NULL,
    name text NOT NULL,
    allowed_models text[] NOT NULL,
    cost_map text,
    usage_on_streams text NOT NULL,
    changed_at bigint NOT NULL,
    PRIMARY KEY (id, revision)
);

CREATE TABLE IF NOT EXISTS api_keys
(
    key_id text PRIMARY KEY,
    -- Lower-case hex SHA-256 of what the client sends.
    key_hash text NOT NULL CONSTRAINT key_uniqueness UNIQUE,
    -- Set only for isKeyNotHashed: the wire shows such a key as it is.
    shown_key text NOT NULL,
    name text NOT NULL,
    tags text[] NOT NULL DEFAULT '{}',
    setting_ids text[] NOT NULL,
    setting_id text NOT NULL DEFAULT '',
    allowed_paths jsonb,
    revoked boolean NOT NULL DEFAULT false,
    revoked_reason text NOT NULL DEFAULT '',
    cost_limit_in_usd numeric NOT NULL DEFAULT 0,
    cost_limit_in_usd_over_time numeric NOT NULL DEFAULT 0,
    cost_limit_in_usd_unit text NOT NULL DEFAULT '',
    rate_limit_over_time bigint NOT NULL DEFAULT 0,
    rate_limit_unit text NOT NULL DEFAULT '',
    ttl text NOT NULL DEFAULT '',
    should_log_request boolean NOT NULL DEFAULT false,
    should_log_response boolean NOT NULL DEFAULT false,
    rotation_enabled boolean NOT NULL DEFAULT false,
    policy_id text NOT NULL DEFAULT '',
    is_key_not_hashed boolean NOT NULL DEFAULT false,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    revision bigint NOT NULL
);
CREATE INDEX IF NOT EXISTS api_keys_revision ON api_keys (revision);
CREATE INDEX IF NOT EXISTS api_keys_tags ON api_keys USING gin (tags);

CREATE TABLE IF NOT EXISTS configuration_tombstones
(
    kind text NOT NULL,
    id text NOT NULL,
    revision bigint NOT NULL,
    PRIMARY KEY (kind, id)
);
CREATE INDEX IF NOT EXISTS configuration_tombstones_revision
    ON configuration_tombstones (revision);
