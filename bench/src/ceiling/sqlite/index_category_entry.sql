INSERT INTO idx.category_entries (category_id, global_position, stream_hash, type_hash, correlation_hash)
VALUES (?1, ?2, ?3, 1, NULL)
