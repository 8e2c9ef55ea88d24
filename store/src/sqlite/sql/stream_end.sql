SELECT last_position FROM idx.stream_runs WHERE stream_id = ?1 ORDER BY last_position DESC LIMIT 1
