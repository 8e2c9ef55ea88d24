-- Of the schema's first version, which knew neither identities nor heads.
SELECT incarnation, name, description, metadata, created_at, messages, NULL, 0, incarnation, 0, NULL, NULL
FROM namespaces
WHERE deleted_at IS NULL
ORDER BY name
