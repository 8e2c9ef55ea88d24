-- The names that other sessions with this database have.
SELECT DISTINCT a.application_name
FROM pg_catalog.pg_stat_activity AS a
WHERE a.datname = pg_catalog.current_database() AND a.pid <> pg_catalog.pg_backend_pid() AND a.application_name <> ''
