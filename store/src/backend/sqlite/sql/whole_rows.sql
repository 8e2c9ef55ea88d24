-- Everything that the log keeps of its messages; the schema is the one that has them.
SELECT global_position, stream, position, starts_stream, id, type, correlation, time, metadata, data
FROM messages
WHERE global_position > ?1 AND global_position <= ?2
ORDER BY global_position
