INSERT INTO idx.progress (log_identity, session, base, completion, completion_id, message_count, stream_count)
VALUES (?1, randomblob(16), NULL, 0, NULL, 0, 0)
