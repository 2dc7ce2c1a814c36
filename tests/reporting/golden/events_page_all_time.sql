SELECT toString(id), toUnixTimestamp64Milli(happened_at), key
FROM
(
SELECT
    event_id AS id,
    occurred_at AS happened_at,
    toString(key_id) AS key,
    ifNull(cost_usd, 0) AS cost
FROM entries
WHERE run_id = toUUID('00000000-0000-0000-0000-000000000000')
  AND custom_id IN {custom_ids:Array(String)}
  AND requests > 0
  AND event_id NOT IN (
SELECT event_id
FROM entries
WHERE run_id = toUUID('00000000-0000-0000-0000-000000000000')
  AND custom_id IN {custom_ids:Array(String)}
  AND (kind != 'charge' OR attempt_no > 0)
)
UNION ALL
SELECT event_id, max(occurred_at), toString(any(key_id)), ifNull(sum(cost_usd), 0)
FROM entries
WHERE run_id = toUUID('00000000-0000-0000-0000-000000000000')
  AND custom_id IN {custom_ids:Array(String)}
  AND event_id IN (
SELECT event_id
FROM entries
WHERE run_id = toUUID('00000000-0000-0000-0000-000000000000')
  AND custom_id IN {custom_ids:Array(String)}
  AND (kind != 'charge' OR attempt_no > 0)
)
GROUP BY event_id
HAVING sum(requests) > 0
)
ORDER BY happened_at ASC, id ASC
LIMIT {row_limit:UInt64} OFFSET {row_offset:UInt64}
-- {"custom_ids": ["c-1"], "row_limit": 1001, "row_offset": 0}
