SELECT incarnation, name, description, created_at, coalesce(origin, incarnation), protected, quota_messages, quota_bytes
FROM registry.namespaces WHERE deleted_at IS NULL ORDER BY name
