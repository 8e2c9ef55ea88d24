-- Whether schema $1 has table $2. Asked of the catalogue's tables: to_regclass may answer from a cache
-- that does not know yet what another session has committed.
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_namespace AS s
    JOIN pg_catalog.pg_class AS t ON t.relnamespace = s.oid
    WHERE s.nspname = $1::name AND t.relname = $2::name
)
