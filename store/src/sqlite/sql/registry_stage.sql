INSERT INTO registry.namespaces (name, token_hash, description, metadata, created_at, deleted_at, messages, identity)
SELECT name, token_hash, description, metadata, created_at, ?2, 0, randomblob(16)
FROM registry.namespaces WHERE incarnation = ?1 AND deleted_at IS NULL
RETURNING incarnation, name, token_hash, description, created_at
