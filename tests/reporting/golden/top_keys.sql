SELECT
    key_id,
    ifNull(sum(cost_usd), 0) AS spend,
    sumIf(requests, rating_status = 'unpriced'),
    sumIf(requests, rating_status = 'unknown')
FROM entries
WHERE run_id = toUUID('00000000-0000-0000-0000-000000000000')
  AND occurred_at >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
  AND occurred_at < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
  AND key_id IN {key_ids:Array(String)}
  AND custom_id IN {custom_ids:Array(String)}
  AND user_id IN {user_ids:Array(String)}
  AND hasAll(tags, {tags:Array(String)})
  AND key_id != ''
GROUP BY key_id
ORDER BY spend DESC, key_id
LIMIT {row_limit:UInt64} OFFSET {row_offset:UInt64}
-- {"custom_ids": ["c-1"], "end_ms": 1700003600000, "key_ids": ["key-1", "key-2"], "row_limit": 5, "row_offset": 10, "start_ms": 1700000000000, "tags": ["a", "b"], "user_ids": ["u-1"]}
