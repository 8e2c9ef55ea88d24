-- Everything that the log keeps of its messages; the schema is the one that has them.
SELECT global_position, stream, position, type, correlation, id, time, metadata, data, starts_stream, checksum
FROM messages
WHERE global_position > ?1 AND global_position <= ?2
ORDER BY global_position
