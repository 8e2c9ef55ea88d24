-- Makes the commit at least synchronous, whatever the role or a pooler's session says.
CREATE FUNCTION {log}.be_synchronous_1() RETURNS void LANGUAGE plpgsql AS $synchronous$
BEGIN
    IF pg_catalog.current_setting('synchronous_commit') NOT IN ('on', 'remote_apply') THEN
        PERFORM pg_catalog.set_config('synchronous_commit', 'on', true);
    END IF;
END
$synchronous$
