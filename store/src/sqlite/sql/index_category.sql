INSERT INTO idx.categories AS c (name, category_id, stream_count, message_count)
VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (name) DO UPDATE
SET stream_count = c.stream_count + excluded.stream_count, message_count = c.message_count + excluded.message_count
RETURNING category_id
