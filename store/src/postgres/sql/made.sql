-- The schemas of logs that have been made, living or not.
SELECT s.nspname::text
FROM pg_catalog.pg_namespace AS s
JOIN pg_catalog.pg_class AS t ON t.relnamespace = s.oid
WHERE pg_catalog.starts_with(s.nspname::text, 'eventodb_') AND t.relname = 'batches'
