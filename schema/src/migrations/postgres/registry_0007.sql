-- The token that each namespace had gets every right.
INSERT INTO eventodb.tokens (id, origin, hash, description, rights, created_at)
SELECT pg_catalog.gen_random_uuid(), coalesce(origin, incarnation), token_hash, '', 15, created_at
FROM eventodb.namespaces
WHERE deleted_at IS NULL
