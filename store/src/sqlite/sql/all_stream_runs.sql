SELECT last_position, last_global_position, run, stream_id FROM idx.stream_runs
