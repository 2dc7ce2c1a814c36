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
  AND occurred_at >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
  AND occurred_at < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
  AND key_id IN {key_ids:Array(String)}
  AND custom_id IN {custom_ids:Array(String)}
  AND user_id IN {user_ids:Array(String)}
  AND hasAll(tags, {tags:Array(String)})
  AND requests > 0
  AND status = {status:UInt16}
  AND policy_id IN {policy_ids:Array(String)}
  AND policy_action IN {actions:Array(String)}
  AND event_id NOT IN (
SELECT event_id
FROM entries
WHERE run_id = toUUID('00000000-0000-0000-0000-000000000000')
  AND occurred_at >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
  AND occurred_at < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
  AND key_id IN {key_ids:Array(String)}
  AND custom_id IN {custom_ids:Array(String)}
  AND user_id IN {user_ids:Array(String)}
  AND hasAll(tags, {tags:Array(String)})
  AND (kind != 'charge' OR attempt_no > 0)
)
UNION ALL
SELECT event_id, max(occurred_at), toString(any(key_id)), ifNull(sum(cost_usd), 0)
FROM entries
WHERE run_id = toUUID('00000000-0000-0000-0000-000000000000')
  AND occurred_at >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
  AND occurred_at < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
  AND key_id IN {key_ids:Array(String)}
  AND custom_id IN {custom_ids:Array(String)}
  AND user_id IN {user_ids:Array(String)}
  AND hasAll(tags, {tags:Array(String)})
  AND event_id IN (
SELECT event_id
FROM entries
WHERE run_id = toUUID('00000000-0000-0000-0000-000000000000')
  AND occurred_at >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
  AND occurred_at < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
  AND key_id IN {key_ids:Array(String)}
  AND custom_id IN {custom_ids:Array(String)}
  AND user_id IN {user_ids:Array(String)}
  AND hasAll(tags, {tags:Array(String)})
  AND (kind != 'charge' OR attempt_no > 0)
)
GROUP BY event_id
HAVING sum(requests) > 0
   AND argMaxIf(status, (booked_at, kind, journal_offset), requests > 0) = {status:UInt16}
   AND argMaxIf(policy_id, (booked_at, kind, journal_offset), requests > 0) IN {policy_ids:Array(String)}
   AND argMaxIf(policy_action, (booked_at, kind, journal_offset), requests > 0) IN {actions:Array(String)}
)
ORDER BY cost DESC, happened_at DESC, id DESC
LIMIT {row_limit:UInt64} OFFSET {row_offset:UInt64}
-- {"actions": ["blocked"], "custom_ids": ["c-1"], "end_ms": 1700003600000, "key_ids": ["key-1", "key-2"], "policy_ids": ["p-1"], "row_limit": 1001, "row_offset": 0, "start_ms": 1700000000000, "status": 403, "tags": ["a", "b"], "user_ids": ["u-1"]}
