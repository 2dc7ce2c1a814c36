SELECT
    count(),
    sum(cost_usd),
    sumIf(requests, rating_status = 'unpriced'),
    sumIf(requests, rating_status = 'unknown')
FROM entries
WHERE run_id = toUUID('00000000-0000-0000-0000-000000000000')
  AND key_id = {key_id:String}
-- {"key_id": "key-1"}
