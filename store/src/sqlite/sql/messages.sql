SELECT m.global_position, m.stream, m.position, m.type, m.correlation, m.id, m.time, m.metadata, m.data, m.starts_stream, m.checksum
FROM rarray(?1) AS wanted CROSS JOIN log.messages AS m ON m.global_position = wanted.value
