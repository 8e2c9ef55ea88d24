INSERT INTO idx.streams (name, stream_id) VALUES (?1, ?2)
