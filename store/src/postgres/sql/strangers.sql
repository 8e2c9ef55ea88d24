-- One thing in schema $1, or the schema itself, that belongs neither to this role nor to a superuser: its
-- kind, its name, its owner. What is in a schema is found by what depends on it, because that has an index.
SELECT found.kind, found.name, owner.rolname::text
FROM (
    SELECT 'schema' AS kind, s.nspname::text AS name, s.nspowner AS role
    FROM pg_catalog.pg_namespace AS s
    WHERE s.nspname = $1::name
    UNION ALL
    SELECT 'table', t.relname::text, t.relowner
    FROM pg_catalog.pg_namespace AS s
    JOIN pg_catalog.pg_depend AS d
        ON d.refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass AND d.refobjid = s.oid
            AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
    JOIN pg_catalog.pg_class AS t ON t.oid = d.objid
    WHERE s.nspname = $1::name
    UNION ALL
    SELECT 'function', f.proname::text, f.proowner
    FROM pg_catalog.pg_namespace AS s
    JOIN pg_catalog.pg_depend AS d
        ON d.refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass AND d.refobjid = s.oid
            AND d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass
    JOIN pg_catalog.pg_proc AS f ON f.oid = d.objid
    WHERE s.nspname = $1::name
) AS found
JOIN pg_catalog.pg_roles AS owner ON owner.oid = found.role
WHERE owner.rolname <> current_user AND NOT owner.rolsuper
LIMIT 1
