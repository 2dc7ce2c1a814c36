SELECT
    toString(event_id),
    toUnixTimestamp64Milli(max(occurred_at)),
    sum(cost_usd),
    sum(input_tokens),
    sum(output_tokens),
    intDiv(argMaxIf(duration_us, booked_at, kind = 'charge' AND requests > 0 AND duration_us IS NOT NULL) + 500, 1000),
    argMaxIf((
        tags,
        key_id,
        provider,
        multiIf(model_served != '', model_served, model_sent != '', model_sent, model_asked),
        status,
        path,
        method,
        custom_id,
        user_id,
        policy_action,
        policy_id,
        route_id,
        correlation_id,
        toString(rating_status),
        toString(evidence)
    ), (booked_at, kind, journal_offset), requests > 0)
FROM entries
WHERE run_id = toUUID('00000000-0000-0000-0000-000000000000')
  AND key_id IN {key_ids:Array(String)}
  AND occurred_at >= fromUnixTimestamp64Milli({first_ms:Int64}, 'UTC')
  AND occurred_at <= fromUnixTimestamp64Milli({last_ms:Int64}, 'UTC')
  AND event_id IN {event_ids:Array(UUID)}
GROUP BY event_id
-- {"event_ids": ["018f2f00-0000-7000-8000-000000000001", "018f2f00-0000-7000-8000-000000000002"], "first_ms": 1700000000000, "key_ids": ["key-1"], "last_ms": 1700003600000}
