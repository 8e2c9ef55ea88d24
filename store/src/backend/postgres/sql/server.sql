-- What a server must be, and what is worth a warning.
SELECT current_setting('server_version_num')::int4,
       current_setting('server_version'),
       current_setting('server_encoding'),
       current_setting('fsync') = 'on',
       current_setting('full_page_writes') = 'on',
       has_database_privilege(current_database(), 'CREATE'),
       current_database()::text
