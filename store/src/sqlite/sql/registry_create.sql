INSERT INTO registry.namespaces (name, description, metadata, created_at, messages, identity)
VALUES (?1, ?2, ?3, ?4, 0, randomblob(16))
ON CONFLICT DO NOTHING
RETURNING incarnation, name, description, created_at, coalesce(origin, incarnation), protected, quota_messages, quota_bytes
