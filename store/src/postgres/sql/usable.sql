-- Whether an incarnation lives or is staged.
SELECT incarnation FROM eventodb.namespaces
WHERE incarnation = $1 AND (deleted_at IS NULL OR staged_until IS NOT NULL)
