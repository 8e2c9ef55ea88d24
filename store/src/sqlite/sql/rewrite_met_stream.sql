INSERT INTO temp.met_streams (stream, position) VALUES (?1, ?2)
ON CONFLICT (stream) DO UPDATE SET position = excluded.position
