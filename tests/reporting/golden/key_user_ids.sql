SELECT DISTINCT user_id
FROM entries
WHERE run_id = toUUID('00000000-0000-0000-0000-000000000000')
  AND key_id = {key_id:String}
  AND user_id != ''
ORDER BY user_id
LIMIT {row_limit:UInt64}
-- {"key_id": "key-1", "row_limit": 1001}
