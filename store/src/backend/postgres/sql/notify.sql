-- Hints carry nothing that must survive, so their commit waits for no disk.
SELECT count(pg_notify('eventodb', payload))
FROM unnest($1) AS hints(payload)
WHERE set_config('synchronous_commit', 'off', true) IS NOT NULL
