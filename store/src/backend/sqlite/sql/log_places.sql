SELECT m.global_position, m.stream, m.position, m.type, m.correlation
FROM log.messages AS m
WHERE m.global_position BETWEEN ?1 AND ?2
ORDER BY m.global_position
LIMIT ?3
