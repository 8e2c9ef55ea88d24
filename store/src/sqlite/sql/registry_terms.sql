-- What the log that takes the place of this incarnation must observe, if the incarnation lives.
SELECT protected, quota_messages, quota_bytes FROM registry.namespaces WHERE incarnation = ?1 AND deleted_at IS NULL
