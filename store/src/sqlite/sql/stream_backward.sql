-- From the run that holds the position, or the last one.
SELECT last_position, last_global_position, run
FROM idx.stream_runs
WHERE stream_id = ?1 AND last_position <= coalesce(
    (SELECT last_position FROM idx.stream_runs WHERE stream_id = ?1 AND last_position >= ?2 ORDER BY last_position LIMIT 1),
    9223372036854775807)
ORDER BY last_position DESC
