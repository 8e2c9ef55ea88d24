SELECT position, global_position
FROM idx.stream_entries
WHERE stream_id = (SELECT stream_id FROM idx.streams WHERE name = ?1)
ORDER BY position DESC
LIMIT 1
