-- No row: the message was handled.
INSERT INTO eventodb_group_stream (group_name, stream, position) VALUES (?1, ?2, ?3)
ON CONFLICT (group_name, stream) DO UPDATE SET position = excluded.position
WHERE eventodb_group_stream.position < excluded.position
