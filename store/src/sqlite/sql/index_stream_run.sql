INSERT INTO idx.stream_runs (stream_id, last_position, last_global_position, run) VALUES (?1, ?2, ?3, ?4)
