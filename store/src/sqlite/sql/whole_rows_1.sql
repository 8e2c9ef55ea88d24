-- Of the schema's first version, which knew no checksums.
SELECT global_position, stream, position, type, correlation, id, time, metadata, data, starts_stream, NULL
FROM messages
WHERE global_position > ?1 AND global_position <= ?2
ORDER BY global_position
