INSERT INTO eventodb.namespaces (name, token_hash, description, metadata, created_at)
SELECT $1, $2, $3, $4, pg_catalog.clock_timestamp()
WHERE {synchronous}
ON CONFLICT (name) WHERE deleted_at IS NULL DO NOTHING
RETURNING incarnation, name, token_hash, description, created_at
