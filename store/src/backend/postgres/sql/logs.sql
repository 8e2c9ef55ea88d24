-- The living incarnations, and whether the schema of each has been made.
SELECT incarnation, to_regclass('eventodb_' || incarnation || '.batches') IS NOT NULL
FROM eventodb.namespaces
WHERE deleted_at IS NULL
ORDER BY incarnation
