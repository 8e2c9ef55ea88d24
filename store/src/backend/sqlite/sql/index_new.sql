INSERT INTO idx.progress (log_identity, session, completion, completion_id, message_count, stream_count)
VALUES (?1, NULL, 0, NULL, 0, 0)
