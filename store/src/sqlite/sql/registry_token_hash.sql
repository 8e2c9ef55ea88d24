SELECT token_hash FROM registry.namespaces WHERE name = ?1 AND deleted_at IS NULL
