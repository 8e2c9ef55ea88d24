SELECT incarnation, name, description, created_at, coalesce(origin, incarnation), protected, quota_messages, quota_bytes
FROM eventodb.namespaces WHERE name = $1 AND deleted_at IS NULL
