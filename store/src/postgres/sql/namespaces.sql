SELECT incarnation, name, token_hash, description, created_at
FROM eventodb.namespaces WHERE deleted_at IS NULL ORDER BY name
