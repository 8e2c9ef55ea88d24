INSERT OR REPLACE INTO idx.progress (rowid, log_identity, session, base, completion, completion_id, message_count, stream_count)
VALUES (1, x'', randomblob(16), NULL, ?1, ?2, ?1, 0)
