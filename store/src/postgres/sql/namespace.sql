SELECT incarnation, name, token_hash, description, created_at
FROM eventodb.namespaces WHERE name = $1 AND deleted_at IS NULL
