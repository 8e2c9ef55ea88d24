SELECT incarnation, name, token_hash, description, metadata, created_at, messages, identity, marked_head
FROM namespaces
WHERE deleted_at IS NULL
ORDER BY name
