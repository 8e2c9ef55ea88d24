-- The staged incarnation $1 takes the place of $2, which has ended, with what that one had.
UPDATE eventodb.namespaces AS promoted
SET token_hash = ended.token_hash, description = ended.description, metadata = ended.metadata,
    origin = coalesce(ended.origin, ended.incarnation), protected = ended.protected,
    quota_messages = ended.quota_messages, quota_bytes = ended.quota_bytes,
    deleted_at = NULL, staged_until = NULL, replaces = NULL
FROM eventodb.namespaces AS ended
WHERE promoted.incarnation = $1 AND ended.incarnation = $2
