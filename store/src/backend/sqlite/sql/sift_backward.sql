SELECT m.global_position, m.stream, m.position, m.type, m.correlation, m.id, m.time, m.metadata, m.data
FROM log.messages AS m
WHERE m.global_position BETWEEN ?1 AND ?2
    AND (?3 IS NULL OR m.type IN (SELECT value FROM json_each(?3)))
    AND (?4 IS NULL OR m.correlation = ?4)
ORDER BY m.global_position DESC
