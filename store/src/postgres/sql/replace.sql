-- Ends an incarnation whose place is taken, protected or not.
UPDATE eventodb.namespaces SET deleted_at = $2 WHERE incarnation = $1 AND deleted_at IS NULL RETURNING incarnation
