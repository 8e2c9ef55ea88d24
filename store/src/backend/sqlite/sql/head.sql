-- Position of the last message, and the time of the last *written* one: imported times may lie in the future.
SELECT m.global_position, coalesce(i.written_time, m.time)
FROM log.messages AS m
LEFT JOIN log.imports AS i ON i.last_position = m.global_position
ORDER BY m.global_position DESC
LIMIT 1
