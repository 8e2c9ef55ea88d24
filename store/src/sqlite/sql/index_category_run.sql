INSERT INTO idx.category_runs (category_id, last_global_position, run) VALUES (?1, ?2, ?3)
