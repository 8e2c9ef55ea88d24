-- The living incarnations whose schema has been made.
SELECT incarnation FROM eventodb.namespaces
WHERE deleted_at IS NULL AND to_regclass('eventodb_' || incarnation || '.batches') IS NOT NULL
ORDER BY incarnation
