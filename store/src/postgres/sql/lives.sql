-- Whether an incarnation lives.
SELECT incarnation FROM eventodb.namespaces WHERE incarnation = $1 AND deleted_at IS NULL
