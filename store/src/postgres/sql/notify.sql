-- Hints carry nothing that must survive, so their commit waits for no disk.
SELECT pg_catalog.count(pg_catalog.pg_notify('eventodb', payload))
FROM pg_catalog.unnest($1) AS hints(payload)
WHERE pg_catalog.set_config('synchronous_commit', 'off', true) IS NOT NULL
