SELECT global_position, stream, position, type, correlation, id, time, metadata, data, starts_stream, checksum
FROM log.messages
WHERE global_position > ?1
ORDER BY global_position
