-- An incarnation that is to take the place of $1, staged at $2 and kept until $3.
INSERT INTO eventodb.namespaces
    (name, token_hash, description, metadata, created_at, deleted_at, staged_until, replaces,
     origin, protected, quota_messages, quota_bytes)
SELECT name, token_hash, description, metadata, created_at, $2, $3, incarnation,
       coalesce(origin, incarnation), protected, quota_messages, quota_bytes
FROM eventodb.namespaces WHERE incarnation = $1 AND deleted_at IS NULL AND NOT protected
ON CONFLICT (replaces) WHERE staged_until IS NOT NULL DO NOTHING
RETURNING incarnation, name, description, created_at, coalesce(origin, incarnation), protected, quota_messages, quota_bytes
