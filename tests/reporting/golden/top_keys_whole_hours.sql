SELECT
    key_id,
    ifNull(sum(cost_usd), 0) AS spend,
    sumIf(requests, rating_status = 'unpriced'),
    sumIf(requests, rating_status = 'unknown')
FROM entries
WHERE run_id = toUUID('00000000-0000-0000-0000-000000000000')
  AND toStartOfHour(occurred_at) >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
  AND toStartOfHour(occurred_at) < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
  AND key_id IN {key_ids:Array(String)}
  AND key_id != ''
GROUP BY key_id
ORDER BY spend DESC, key_id
LIMIT {row_limit:UInt64} OFFSET {row_offset:UInt64}
-- {"end_ms": 1700002800000, "key_ids": ["key-1"], "row_limit": 5, "row_offset": 0, "start_ms": 1699999200000}
