pg_catalog.set_config('synchronous_commit',
               CASE pg_catalog.current_setting('synchronous_commit') WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END,
               true) IS NOT NULL
