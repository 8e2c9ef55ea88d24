-- Ends an incarnation whose place is taken.
UPDATE eventodb.namespaces SET deleted_at = $2 WHERE incarnation = $1
