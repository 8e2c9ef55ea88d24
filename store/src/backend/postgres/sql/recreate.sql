-- A living namespace that is a deleted one's successor.
INSERT INTO eventodb.namespaces (name, token_hash, description, metadata, created_at)
SELECT name, token_hash, description, metadata, clock_timestamp()
FROM eventodb.namespaces WHERE incarnation = $1
RETURNING incarnation, name, token_hash, description, created_at
