-- Position of the last message, and the time of the last *written* one where an import ends there: imported times may
-- lie in the future.
SELECT m.global_position, i.written_time
FROM log.messages AS m
LEFT JOIN log.imports AS i ON i.last_position = m.global_position
ORDER BY m.global_position DESC
LIMIT 1
