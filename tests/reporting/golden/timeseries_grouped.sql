SELECT
    intDiv(toUnixTimestamp64Milli(occurred_at) - {start_ms:Int64}, {increment_ms:Int64}) AS bucket,
    multiIf(model_served != '', model_served, model_sent != '', model_sent, model_asked) AS group_0,
    key_id AS group_1,
    custom_id AS group_2,
    user_id AS group_3,
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
  AND key_id IN {key_ids:Array(String)}
  AND custom_id IN {custom_ids:Array(String)}
  AND user_id IN {user_ids:Array(String)}
  AND hasAll(tags, {tags:Array(String)})
GROUP BY bucket, group_0, group_1, group_2, group_3
ORDER BY bucket, group_0, group_1, group_2, group_3
LIMIT {row_limit:UInt64}
-- {"custom_ids": ["c-1"], "end_ms": 1700003600000, "increment_ms": 60000, "key_ids": ["key-1", "key-2"], "row_limit": 1001, "start_ms": 1700000000000, "tags": ["a", "b"], "user_ids": ["u-1"]}
