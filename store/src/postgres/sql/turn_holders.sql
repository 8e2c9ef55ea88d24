-- Who has had the lock of a log's turns for longer than a turn lasts: a session that is none of ours, or one that is
-- stuck. The key as in take_turn; pg_locks has it in two halves.
SELECT holder.pid, holder.usename::text, holder.application_name
FROM (SELECT pg_catalog.hashtextextended('eventodb turn', $1) AS key) AS turn
JOIN pg_catalog.pg_locks AS held
    ON held.classid::bigint = (turn.key >> 32 & 4294967295) AND held.objid::bigint = (turn.key & 4294967295)
JOIN pg_catalog.pg_stat_activity AS holder ON holder.pid = held.pid
WHERE held.locktype = 'advisory' AND held.objsubid = 1 AND held.granted AND held.mode = 'ExclusiveLock'
    AND held.database = (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database())
    AND (holder.xact_start IS NULL OR holder.xact_start < pg_catalog.clock_timestamp() - $2 * interval '1 millisecond')
