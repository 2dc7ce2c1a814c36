SELECT
    toString(event_id),
    toUnixTimestamp64Milli(max(occurred_at) AS happened_at),
    any(key_id)
FROM entries
WHERE run_id = toUUID('00000000-0000-0000-0000-000000000000')
  AND custom_id IN {custom_ids:Array(String)}
GROUP BY event_id
HAVING sum(requests) > 0
ORDER BY happened_at ASC, event_id ASC
LIMIT {row_limit:UInt64} OFFSET {row_offset:UInt64}
-- {"custom_ids": ["c-1"], "row_limit": 1001, "row_offset": 0}
