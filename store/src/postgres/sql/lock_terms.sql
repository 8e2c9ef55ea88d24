-- What the log that takes the place of $1 must observe, if $1 lives. Nobody changes that before the transaction ends.
SELECT protected, quota_messages, quota_bytes FROM eventodb.namespaces WHERE incarnation = $1 AND deleted_at IS NULL FOR UPDATE
