INSERT INTO log.messages (global_position, stream, position, starts_stream, id, type, correlation, time, metadata, data)
VALUES (?1, ?2, ?3, ?4, ?5, 'Deposited', NULL, ?6, NULL, ?7)
