-- A namespace, and its first token, which has every right.
WITH created AS (
    INSERT INTO eventodb.namespaces (name, token_hash, description, metadata, created_at)
    SELECT $1, $2, $3, $4, pg_catalog.clock_timestamp()
    WHERE {synchronous}
    ON CONFLICT (name) WHERE deleted_at IS NULL DO NOTHING
    RETURNING *
), token AS (
    INSERT INTO eventodb.tokens (id, origin, hash, description, rights, created_at)
    SELECT $5, incarnation, token_hash, '', 15, created_at FROM created
)
SELECT incarnation, name, description, created_at, coalesce(origin, incarnation), protected, quota_messages, quota_bytes
FROM created
