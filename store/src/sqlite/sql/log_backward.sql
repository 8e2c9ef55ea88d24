SELECT m.global_position, m.stream, m.position, m.type, m.correlation, m.id, m.time, m.metadata, m.data, m.starts_stream, m.checksum
FROM log.messages AS m
WHERE m.global_position BETWEEN ?1 AND ?2
ORDER BY m.global_position DESC
LIMIT ?3
