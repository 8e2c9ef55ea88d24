-- An incarnation that is to take the place of $1, kept for $2 seconds.
INSERT INTO eventodb.namespaces (name, token_hash, description, metadata, created_at, deleted_at, staged_until, replaces)
SELECT name, token_hash, description, metadata, created_at, pg_catalog.now(), pg_catalog.now() + pg_catalog.make_interval(secs => $2), incarnation
FROM eventodb.namespaces WHERE incarnation = $1 AND deleted_at IS NULL
    AND {synchronous}
ON CONFLICT (replaces) WHERE staged_until IS NOT NULL DO NOTHING
RETURNING incarnation, name, token_hash, description, created_at
