UPDATE idx.progress
SET completion = ?1, completion_id = ?2, message_count = message_count + ?3, stream_count = stream_count + ?4
