-- The schemas of logs that have been made, living or not. One that another role has made is none.
SELECT s.nspname::text
FROM pg_catalog.pg_namespace AS s
JOIN pg_catalog.pg_class AS t ON t.relnamespace = s.oid
JOIN pg_catalog.pg_roles AS owner ON owner.oid = t.relowner
WHERE pg_catalog.starts_with(s.nspname::text, 'eventodb_') AND t.relname = 'batches'
    AND (owner.rolname = current_user OR owner.rolsuper)
