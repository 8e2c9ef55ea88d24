INSERT INTO idx.ids (id, global_position) VALUES (?1, ?2)
