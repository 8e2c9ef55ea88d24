-- The living incarnations, and whether the schema of each has been made.
SELECT incarnation,
       EXISTS (SELECT FROM pg_catalog.pg_namespace AS s
               JOIN pg_catalog.pg_class AS t ON t.relnamespace = s.oid
               WHERE s.nspname = pg_catalog.format('eventodb_%s', incarnation)::name AND t.relname = 'batches')
FROM eventodb.namespaces
WHERE deleted_at IS NULL
ORDER BY incarnation
