INSERT INTO idx.stream_entries (stream_id, position, global_position, type_hash) VALUES (?1, ?2, ?3, 1)
