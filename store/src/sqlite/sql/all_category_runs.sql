SELECT last_global_position, run, category_id FROM idx.category_runs
