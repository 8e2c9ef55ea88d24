-- What a Citus cluster is to this session: run only where the extension is. No statement of the table in `statement`,
-- because a plain PostgreSQL has no such relations.
SELECT coalesce(pg_catalog.current_setting('citus.enable_schema_based_sharding', true), 'off') = 'on',
       EXISTS (SELECT FROM pg_catalog.pg_dist_local_group WHERE groupid = 0),
       (SELECT pg_catalog.count(*) FROM pg_catalog.pg_dist_node
        WHERE groupid <> 0 AND isactive AND noderole = 'primary'),
       EXISTS (SELECT FROM pg_catalog.pg_proc AS f
               WHERE f.pronamespace = 'pg_catalog'::pg_catalog.regnamespace AND f.proname = 'create_distributed_function'
                   AND pg_catalog.has_function_privilege(f.oid, 'EXECUTE'))
