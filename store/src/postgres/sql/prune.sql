-- Deletes at most $2 of the oldest batches, but none of the newest $1 and none of the last hour: a fence
-- may still ask for those.
DELETE FROM {log}.batches
WHERE seq < least((SELECT pg_catalog.max(seq) FROM {log}.batches) - $1,
                  (SELECT seq FROM {log}.batches ORDER BY seq OFFSET $2 LIMIT 1))
    AND time < pg_catalog.now() - interval '1 hour'
