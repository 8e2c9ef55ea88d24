-- What every session of this server begins with. Commits are at least synchronous whatever the role
-- says; plans follow an index whatever the statistics say, for a plan made while a table is
-- empty is kept until the table is analysed.
SELECT set_config('synchronous_commit',
                  CASE current_setting('synchronous_commit') WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END,
                  false),
       set_config('default_transaction_isolation', 'read committed', false),
       set_config('plan_cache_mode', 'force_generic_plan', false),
       set_config('enable_seqscan', 'off', false),
       set_config('enable_bitmapscan', 'off', false),
       set_config('enable_hashjoin', 'off', false),
       set_config('enable_mergejoin', 'off', false),
       set_config('jit', 'off', false),
       set_config('max_parallel_workers_per_gather', '0', false),
       set_config('client_min_messages', 'warning', false),
       set_config('statement_timeout', '{statement_timeout_ms}', false),
       set_config('lock_timeout', '{statement_timeout_ms}', false),
       set_config('idle_in_transaction_session_timeout', '{idle_in_transaction_ms}', false)
