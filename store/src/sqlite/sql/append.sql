INSERT INTO log.messages
    (global_position, stream, position, starts_stream, id, type, correlation, time, metadata, data, checksum)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
