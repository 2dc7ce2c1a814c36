SELECT quantilesTDigest(0.5, 0.99)(assumeNotNull(duration_us))
FROM entries
WHERE run_id = toUUID('00000000-0000-0000-0000-000000000000')
  AND occurred_at >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
  AND occurred_at < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
  AND kind = 'charge' AND requests > 0 AND duration_us IS NOT NULL
-- {"end_ms": 1700003600000, "start_ms": 1700000000000}
