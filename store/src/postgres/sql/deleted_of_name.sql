-- The incarnations of a name that have ended, or were given up, and whose schemas may still be there.
SELECT incarnation FROM eventodb.namespaces
WHERE name = $1 AND deleted_at IS NOT NULL AND staged_until IS NULL
ORDER BY incarnation
