-- The living incarnations.
SELECT incarnation FROM eventodb.namespaces WHERE deleted_at IS NULL ORDER BY incarnation
