INSERT INTO registry.namespaces
    (name, description, metadata, created_at, deleted_at, messages, identity, origin, protected, quota_messages, quota_bytes)
SELECT name, description, metadata, created_at, ?2, 0, randomblob(16), coalesce(origin, incarnation), protected, quota_messages, quota_bytes
FROM registry.namespaces WHERE incarnation = ?1 AND deleted_at IS NULL AND NOT protected
RETURNING incarnation, name, description, created_at, coalesce(origin, incarnation), protected, quota_messages, quota_bytes
