-- From the run that holds the position, or the last one.
SELECT last_global_position, run
FROM idx.category_runs
WHERE category_id = ?1 AND last_global_position <= coalesce(
    (SELECT last_global_position FROM idx.category_runs WHERE category_id = ?1 AND last_global_position >= ?2
     ORDER BY last_global_position LIMIT 1),
    9223372036854775807)
ORDER BY last_global_position DESC
