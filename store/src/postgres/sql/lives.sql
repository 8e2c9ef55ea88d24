-- Whether an incarnation lives, and whether it is protected.
SELECT incarnation, protected FROM eventodb.namespaces WHERE incarnation = $1 AND deleted_at IS NULL
