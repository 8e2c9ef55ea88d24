INSERT INTO registry.namespaces (name, token_hash, description, metadata, created_at, messages, identity)
VALUES (?1, ?2, ?3, ?4, ?5, 0, randomblob(16))
ON CONFLICT DO NOTHING
RETURNING incarnation, name, token_hash, description, created_at
