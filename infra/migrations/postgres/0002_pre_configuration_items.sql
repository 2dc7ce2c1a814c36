-- Configuration as documents: every kind of thing an operator sets is one row here, written by one
-- path, audited by one path, and followed by revision.
--
-- A row's document is the JSON of its struct in contracts/config. Which members must be unique,
-- and what is searched, is said by the indexes below.
CREATE TABLE configuration_items
(
    kind text NOT NULL,
    id text NOT NULL,
    document jsonb NOT NULL,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    revision bigint NOT NULL,
    PRIMARY KEY (kind, id)
);
CREATE INDEX configuration_items_revision ON configuration_items (revision);
CREATE INDEX configuration_items_created ON configuration_items (kind, created_at, id);
CREATE INDEX configuration_items_tags ON configuration_items
    USING gin ((document -> 'tags') jsonb_path_ops);
CREATE INDEX configuration_items_settings ON configuration_items
    USING gin ((document -> 'setting_ids'));
ALTER TABLE api_keys RENAME CONSTRAINT key_uniqueness TO api_keys_key_uniqueness;
CREATE UNIQUE INDEX key_uniqueness ON configuration_items ((document ->> 'key_hash'))
    WHERE kind = 'key';
CREATE UNIQUE INDEX route_path_uniqueness ON configuration_items ((document ->> 'path'))
    WHERE kind = 'route';
CREATE UNIQUE INDEX custom_provider_uniqueness ON configuration_items ((document ->> 'provider'))
    WHERE kind = 'custom_provider';
CREATE UNIQUE INDEX model_alias_uniqueness ON configuration_items ((document ->> 'alias'))
    WHERE kind = 'model_alias';
CREATE UNIQUE INDEX admin_token_uniqueness ON configuration_items ((document ->> 'token_hash'))
    WHERE kind = 'admin_token';
CREATE INDEX configuration_items_user_id ON configuration_items
    USING hash ((document ->> 'user_id'))
    WHERE kind = 'user';

-- Who changed what, when, from what to what; secrets masked. Append-only.
CREATE TABLE audit_log
(
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at_ms bigint NOT NULL,
    actor text NOT NULL,
    action text NOT NULL CHECK (action IN ('create', 'update', 'delete')),
    kind text NOT NULL,
    item_id text NOT NULL,
    revision bigint NOT NULL,
    before jsonb,
    after jsonb
);
CREATE INDEX audit_log_item ON audit_log (kind, item_id, id);
CREATE INDEX audit_log_at ON audit_log (at_ms, id);

-- What was there. Secrets stay in clear until `tollway secrets rotate` seals them.
INSERT INTO configuration_items
SELECT 'provider_setting', id,
    jsonb_strip_nulls(jsonb_build_object(
        'id', id, 'provider', provider, 'name', name, 'setting', setting - 'apikey',
        'sealed', CASE WHEN setting ? 'apikey'
            THEN 'clear ' || jsonb_build_object('apikey', setting -> 'apikey')::text END,
        'allowed_models', to_jsonb(allowed_models), 'cost_map', cost_map,
        'usage_on_streams', usage_on_streams,
        'created_at', created_at, 'updated_at', updated_at)),
    created_at, updated_at, revision
FROM provider_settings;

INSERT INTO configuration_items
SELECT 'key', key_id,
    jsonb_strip_nulls(jsonb_build_object(
        'key_id', key_id, 'key_hash', key_hash, 'name', name, 'tags', to_jsonb(tags),
        'shown_key', CASE WHEN is_key_not_hashed THEN shown_key END,
        'setting_ids', to_jsonb(setting_ids), 'setting_id', setting_id,
        'allowed_paths', allowed_paths, 'revoked', revoked, 'revoked_reason', revoked_reason,
        'cost_limit_in_usd', cost_limit_in_usd::text,
        'cost_limit_in_usd_over_time', cost_limit_in_usd_over_time::text,
        'cost_limit_in_usd_unit', cost_limit_in_usd_unit,
        'rate_limit_over_time', rate_limit_over_time, 'rate_limit_unit', rate_limit_unit,
        'ttl', ttl, 'should_log_request', should_log_request,
        'should_log_response', should_log_response, 'rotation_enabled', rotation_enabled,
        'policy_id', policy_id, 'is_key_not_hashed', is_key_not_hashed,
        'created_at', created_at, 'updated_at', updated_at)),
    created_at, updated_at, revision
FROM api_keys;
