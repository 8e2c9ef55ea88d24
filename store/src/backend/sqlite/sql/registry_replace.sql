INSERT INTO registry.namespaces (name, token_hash, description, metadata, created_at, messages)
SELECT name, token_hash, description, metadata, created_at, 0 FROM registry.namespaces WHERE incarnation = ?1
RETURNING incarnation, name, token_hash, description, created_at
