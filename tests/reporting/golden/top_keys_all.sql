SELECT
    key_id,
    ifNull(sum(cost_usd), 0) AS spend,
    sumIf(requests, rating_status = 'unpriced'),
    sumIf(requests, rating_status = 'unknown')
FROM entries
WHERE run_id = toUUID('00000000-0000-0000-0000-000000000000')
  AND occurred_at >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
  AND occurred_at < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
  AND key_id != ''
GROUP BY key_id
ORDER BY spend ASC, key_id
LIMIT {row_limit:UInt64} OFFSET {row_offset:UInt64}
-- {"end_ms": 1700003600000, "row_limit": 1001, "row_offset": 0, "start_ms": 1700000000000}
