-- What a server must be, and what is worth a warning.
SELECT pg_catalog.current_setting('server_version_num')::int4,
       pg_catalog.current_setting('server_version'),
       pg_catalog.current_setting('server_encoding'),
       pg_catalog.current_setting('fsync') = 'on',
       pg_catalog.current_setting('full_page_writes') = 'on',
       pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE'),
       pg_catalog.current_database()::text,
       pg_catalog.current_setting('transaction_read_only') = 'on',
       pg_catalog.current_setting('data_checksums') = 'on',
       (SELECT extversion FROM pg_catalog.pg_extension WHERE extname = 'citus')
