-- Nothing reads these any more: their rows are in configuration_items, and each revision of a
-- setting is in the audit log.
DROP TABLE api_keys;
DROP TABLE provider_settings;
DROP TABLE provider_setting_revisions;
