SELECT incarnation, name, token_hash, description, created_at FROM registry.namespaces WHERE deleted_at IS NULL ORDER BY name
