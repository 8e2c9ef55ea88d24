-- Of the schema's second version, which knew one token of each namespace.
SELECT incarnation, name, description, metadata, created_at, messages, identity, marked_head, incarnation, 0, NULL, NULL
FROM namespaces
WHERE deleted_at IS NULL
ORDER BY name
