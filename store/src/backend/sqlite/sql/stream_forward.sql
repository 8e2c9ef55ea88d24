SELECT position, global_position, type_hash
FROM idx.stream_entries
WHERE stream_id = ?1 AND position BETWEEN ?2 AND ?3
ORDER BY position
LIMIT ?4
