INSERT INTO eventodb.namespaces (name, token_hash, description, metadata, created_at)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (name) WHERE deleted_at IS NULL DO NOTHING
RETURNING incarnation, name, description, created_at, coalesce(origin, incarnation), protected, quota_messages, quota_bytes
