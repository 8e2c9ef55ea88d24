-- ?1 takes the place of ?2, with what that one had.
UPDATE registry.namespaces AS promoted
SET description = ended.description, metadata = ended.metadata, origin = coalesce(ended.origin, ended.incarnation),
    protected = ended.protected, quota_messages = ended.quota_messages, quota_bytes = ended.quota_bytes, deleted_at = NULL
FROM registry.namespaces AS ended
WHERE promoted.incarnation = ?1 AND ended.incarnation = ?2
