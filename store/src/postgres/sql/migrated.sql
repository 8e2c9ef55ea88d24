INSERT INTO {log}.migrations (version, oldest_binary, applied_at) VALUES ($1, $2, pg_catalog.clock_timestamp())
