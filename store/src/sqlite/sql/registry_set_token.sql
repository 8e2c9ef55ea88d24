UPDATE registry.namespaces SET token_hash = ?2 WHERE name = ?1 AND deleted_at IS NULL
