-- Keeps other sessions from changing the tokens of a living namespace before the transaction ends. Returns its origin
-- and the time.
SELECT coalesce(origin, incarnation), pg_catalog.clock_timestamp()
FROM eventodb.namespaces
WHERE name = $1 AND deleted_at IS NULL
    AND {synchronous}
FOR NO KEY UPDATE
