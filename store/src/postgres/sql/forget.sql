DELETE FROM eventodb.namespaces WHERE incarnation = $1 AND deleted_at IS NOT NULL AND staged_until IS NULL
