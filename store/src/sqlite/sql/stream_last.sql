SELECT last_position, last_global_position
FROM idx.stream_runs
WHERE stream_id = (SELECT stream_id FROM idx.streams WHERE name = ?1)
ORDER BY last_position DESC
LIMIT 1
