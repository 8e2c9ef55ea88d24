SELECT position FROM idx.stream_entries WHERE stream_id = ?1 ORDER BY position DESC LIMIT 1
