SELECT
    toString(event_id),
    toUnixTimestamp64Milli(max(occurred_at) AS happened_at),
    any(key_id)
FROM entries
WHERE run_id = toUUID('00000000-0000-0000-0000-000000000000')
  AND occurred_at >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
  AND occurred_at < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
GROUP BY event_id
HAVING sum(requests) > 0
ORDER BY happened_at DESC, event_id DESC
LIMIT {row_limit:UInt64} OFFSET {row_offset:UInt64}
-- {"end_ms": 1700003600000, "row_limit": 50, "row_offset": 100, "start_ms": 1700000000000}
