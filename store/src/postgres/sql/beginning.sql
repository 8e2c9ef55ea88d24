-- What a session of this role begins with, the clock, and the process behind the session.
SELECT pg_catalog.current_setting('synchronous_commit'),
       pg_catalog.current_setting('search_path'),
       pg_catalog.clock_timestamp(),
       pg_catalog.current_setting('max_connections')::int4
           - pg_catalog.current_setting('superuser_reserved_connections')::int4,
       pg_catalog.pg_backend_pid()
