UPDATE eventodb.namespaces SET deleted_at = $2
WHERE incarnation = $1 AND deleted_at IS NULL AND NOT protected
RETURNING incarnation
