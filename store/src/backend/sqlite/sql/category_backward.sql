SELECT global_position, stream_hash, type_hash, correlation_hash
FROM idx.category_entries
WHERE category_id = ?1 AND global_position BETWEEN ?2 AND ?3
ORDER BY global_position DESC
LIMIT ?4
