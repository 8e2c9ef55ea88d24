SELECT incarnation, name, description, metadata, created_at, messages, identity, marked_head,
       coalesce(origin, incarnation), protected, quota_messages, quota_bytes
FROM namespaces
WHERE deleted_at IS NULL
ORDER BY name
