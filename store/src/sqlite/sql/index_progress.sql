UPDATE idx.progress
SET completion = ?1, completion_id = ?2, message_count = message_count + ?3, stream_count = stream_count + ?4,
    base = CASE WHEN ?5 THEN session ELSE base END, session = randomblob(16)
