SELECT quantilesExactInclusive(0.5, 0.99)(assumeNotNull(duration_us))
FROM entries
WHERE run_id = toUUID('00000000-0000-0000-0000-000000000000')
  AND occurred_at >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
  AND occurred_at < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
  AND key_id IN {key_ids:Array(String)}
  AND custom_id IN {custom_ids:Array(String)}
  AND user_id IN {user_ids:Array(String)}
  AND hasAll(tags, {tags:Array(String)})
  AND kind = 'charge' AND requests > 0 AND duration_us IS NOT NULL
-- {"custom_ids": ["c-1"], "end_ms": 1700003600000, "key_ids": ["key-1", "key-2"], "start_ms": 1700000000000, "tags": ["a", "b"], "user_ids": ["u-1"]}
