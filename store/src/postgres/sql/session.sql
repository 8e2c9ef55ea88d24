-- What every session of this server begins with. Commits are at least synchronous whatever the role
-- says; plans follow an index whatever the statistics say, for a plan made while a table is
-- empty is kept until the table is analysed. Nothing that somebody put into another schema takes the place of what a
-- statement names: who may create there would run as this server's role. Citus plans a statement by its parameters, and
-- finds no plan without them.
SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', false),
       pg_catalog.set_config('synchronous_commit',
                  CASE pg_catalog.current_setting('synchronous_commit') WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END,
                  false),
       pg_catalog.set_config('default_transaction_isolation', 'read committed', false),
       pg_catalog.set_config('plan_cache_mode',
                  CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = 'citus') THEN 'auto'
                       ELSE 'force_generic_plan' END,
                  false),
       pg_catalog.set_config('enable_seqscan', 'off', false),
       pg_catalog.set_config('enable_bitmapscan', 'off', false),
       pg_catalog.set_config('enable_hashjoin', 'off', false),
       pg_catalog.set_config('enable_mergejoin', 'off', false),
       pg_catalog.set_config('jit', 'off', false),
       pg_catalog.set_config('max_parallel_workers_per_gather', '0', false),
       pg_catalog.set_config('client_min_messages', 'warning', false),
       pg_catalog.set_config('statement_timeout', '{statement_timeout_ms}', false),
       pg_catalog.set_config('lock_timeout', '{statement_timeout_ms}', false),
       pg_catalog.set_config('idle_in_transaction_session_timeout', '{idle_in_transaction_ms}', false)
