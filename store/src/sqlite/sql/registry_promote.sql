-- ?1 takes the place of ?2, with what that one had.
UPDATE registry.namespaces AS promoted
SET token_hash = ended.token_hash, description = ended.description, metadata = ended.metadata, deleted_at = NULL
FROM registry.namespaces AS ended
WHERE promoted.incarnation = ?1 AND ended.incarnation = ?2
