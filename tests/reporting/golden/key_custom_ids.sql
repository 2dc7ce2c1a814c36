SELECT DISTINCT custom_id
FROM entries
WHERE run_id = toUUID('00000000-0000-0000-0000-000000000000')
  AND key_id = {key_id:String}
  AND custom_id != ''
ORDER BY custom_id
LIMIT {row_limit:UInt64}
-- {"key_id": "key-1", "row_limit": 1001}
