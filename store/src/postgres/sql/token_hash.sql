SELECT token_hash FROM eventodb.namespaces WHERE name = $1 AND deleted_at IS NULL
