SELECT
    intDiv(toUnixTimestamp64Milli(occurred_at) - {start_ms:Int64}, {increment_ms:Int64}) AS bucket,
    sum(requests),
    sum(cost_usd),
    intDiv(sumIf(duration_us, kind = 'charge' AND requests > 0 AND duration_us IS NOT NULL) + 500, 1000),
    sum(input_tokens),
    sum(output_tokens),
    sumIf(requests, status = 200),
    sumIf(requests, rating_status = 'unpriced'),
    sumIf(requests, rating_status = 'unknown'),
    countIf(kind = 'charge' AND requests > 0 AND duration_us IS NOT NULL)
FROM entries
WHERE run_id = toUUID('00000000-0000-0000-0000-000000000000')
  AND occurred_at >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
  AND occurred_at < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
GROUP BY bucket
ORDER BY bucket
LIMIT {row_limit:UInt64}
-- {"end_ms": 1700003600000, "increment_ms": 60000, "row_limit": 1001, "start_ms": 1700000000000}
