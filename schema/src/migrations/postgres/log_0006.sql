-- A primary key: without one Citus moves no table that is written to. Whoever reads the table for long, as a backup does,
-- shall not hold up the servers; then it stays without.
DO $step$
DECLARE
    usual pg_catalog.text := pg_catalog.current_setting('lock_timeout');
BEGIN
    PERFORM pg_catalog.set_config('lock_timeout', '1s', true);
    ALTER TABLE {log}.folded ADD PRIMARY KEY (position);
    PERFORM pg_catalog.set_config('lock_timeout', usual, true);
EXCEPTION WHEN lock_not_available THEN
    RAISE WARNING 'table {log}.folded is in use and has no primary key yet; once it is not, run: ALTER TABLE {log}.folded ADD PRIMARY KEY (position)';
END
$step$
