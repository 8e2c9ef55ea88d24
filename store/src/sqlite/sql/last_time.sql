-- Time of the last *written* message: imported times may lie in the future. Any version of the schema has these columns.
SELECT coalesce(i.written_time, m.time)
FROM log.messages AS m
LEFT JOIN log.imports AS i ON i.last_position = m.global_position
ORDER BY m.global_position DESC
LIMIT 1
