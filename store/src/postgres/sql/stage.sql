-- An incarnation that is to take the place of $1, kept for $2 seconds.
INSERT INTO eventodb.namespaces
    (name, token_hash, description, metadata, created_at, deleted_at, staged_until, replaces,
     origin, protected, quota_messages, quota_bytes)
SELECT name, token_hash, description, metadata, created_at, pg_catalog.now(), pg_catalog.now() + pg_catalog.make_interval(secs => $2), incarnation,
       coalesce(origin, incarnation), protected, quota_messages, quota_bytes
FROM eventodb.namespaces WHERE incarnation = $1 AND deleted_at IS NULL AND NOT protected
    AND {synchronous}
ON CONFLICT (replaces) WHERE staged_until IS NOT NULL DO NOTHING
RETURNING incarnation, name, description, created_at, coalesce(origin, incarnation), protected, quota_messages, quota_bytes
