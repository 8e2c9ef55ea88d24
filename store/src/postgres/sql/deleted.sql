-- Incarnations whose schemas are to be dropped: not those deleted just now, for the server that did so still ends the log
-- and counts its messages.
SELECT incarnation FROM eventodb.namespaces
WHERE deleted_at < pg_catalog.now() - interval '5 seconds' AND staged_until IS NULL
ORDER BY incarnation
