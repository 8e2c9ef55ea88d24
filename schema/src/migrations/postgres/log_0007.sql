-- On Citus, where a schema is kept whole on one node: a call of a function is made on the node of the tables.
DO $step$
DECLARE
    called pg_catalog.text;
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = 'citus')
       AND pg_catalog.current_setting('citus.enable_schema_based_sharding', true) = 'on' THEN
        FOR called IN
            SELECT f.oid::pg_catalog.regprocedure::pg_catalog.text FROM pg_catalog.pg_proc AS f
            WHERE f.pronamespace = '{log}'::pg_catalog.regnamespace
                AND f.proname IN ('append_2', 'fence_2', 'tombstone_2', 'unseal_2')
        LOOP
            PERFORM pg_catalog.create_distributed_function(called::pg_catalog.regprocedure, colocate_with := '{log}.messages');
        END LOOP;
    END IF;
END
$step$
