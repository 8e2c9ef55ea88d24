SELECT incarnation FROM eventodb.namespaces WHERE deleted_at IS NOT NULL AND staged_until IS NULL ORDER BY incarnation
