-- Of the schema's first version, which knew neither identities nor heads.
SELECT incarnation, name, token_hash, description, metadata, created_at, messages, NULL, 0
FROM namespaces
WHERE deleted_at IS NULL
ORDER BY name
