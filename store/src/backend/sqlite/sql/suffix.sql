SELECT global_position, stream, position, starts_stream, id, type, correlation
FROM log.messages
WHERE global_position > ?1
ORDER BY global_position
LIMIT ?2
