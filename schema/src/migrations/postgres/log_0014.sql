-- As in step 7, for the functions of step 13.
DO $step$
DECLARE
    called pg_catalog.text;
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = 'citus')
       AND pg_catalog.current_setting('citus.enable_schema_based_sharding', true) = 'on' THEN
        FOR called IN
            SELECT f.oid::pg_catalog.regprocedure::pg_catalog.text FROM pg_catalog.pg_proc AS f
            WHERE f.pronamespace = '{log}'::pg_catalog.regnamespace
                AND f.proname IN ('append_acting_2', 'change_group_2', 'create_group_2')
        LOOP
            PERFORM pg_catalog.create_distributed_function(called::pg_catalog.regprocedure, colocate_with := '{log}.messages');
        END LOOP;
    END IF;
END
$step$
