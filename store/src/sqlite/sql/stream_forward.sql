SELECT last_position, last_global_position, run
FROM idx.stream_runs
WHERE stream_id = ?1 AND last_position >= ?2
ORDER BY last_position
