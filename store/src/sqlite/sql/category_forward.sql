SELECT last_global_position, run
FROM idx.category_runs
WHERE category_id = ?1 AND last_global_position >= ?2
ORDER BY last_global_position
