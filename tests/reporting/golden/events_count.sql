SELECT count()
FROM
(
SELECT event_id
FROM entries
WHERE run_id = toUUID('00000000-0000-0000-0000-000000000000')
  AND occurred_at >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
  AND occurred_at < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
GROUP BY event_id
HAVING sum(requests) > 0
)
-- {"end_ms": 1700003600000, "start_ms": 1700000000000}
