SELECT
    toString(event_id),
    if(stores_request, base64Encode(request), ''),
    if(stores_response, base64Encode(response), ''),
    base64Encode(metadata)
FROM bodies
WHERE event_id IN {event_ids:Array(UUID)}
  AND occurred_at >= fromUnixTimestamp64Milli({first_ms:Int64}, 'UTC')
  AND occurred_at <= fromUnixTimestamp64Milli({last_ms:Int64}, 'UTC')
LIMIT 1 BY event_id
-- {"event_ids": ["018f2f00-0000-7000-8000-000000000001", "018f2f00-0000-7000-8000-000000000002"], "first_ms": 1700000000000, "last_ms": 1700003600000}
