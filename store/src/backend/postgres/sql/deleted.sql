SELECT incarnation FROM eventodb.namespaces WHERE deleted_at IS NOT NULL ORDER BY incarnation
