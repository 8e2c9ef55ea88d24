-- Whether schema $1 has table $2, which belongs to this role or to a superuser. Asked of the catalogue's tables:
-- to_regclass may answer from a cache that does not know yet what another session has committed.
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_namespace AS s
    JOIN pg_catalog.pg_class AS t ON t.relnamespace = s.oid
    JOIN pg_catalog.pg_roles AS owner ON owner.oid = t.relowner
    WHERE s.nspname = $1::name AND t.relname = $2::name AND (owner.rolname = current_user OR owner.rolsuper)
)
