SELECT m.global_position, m.stream, m.position, m.type, m.correlation, m.id, m.time, m.metadata, m.data, m.starts_stream, m.checksum
FROM log.messages AS m
WHERE m.global_position = ?1
