SELECT pg_try_advisory_lock(hashtextextended('eventodb_checkpoint ' || $1, 0))
