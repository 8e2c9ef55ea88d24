SELECT position, global_position
FROM idx.stream_entries
WHERE stream_id = ?1 AND position >= ?2
ORDER BY position
LIMIT 1
