-- The lock by which servers that write to one log take turns; it goes with the transaction. Appends try
-- the same one, shared.
-- The text keeps it apart from what others lock in this database. After $2 the session gives up waiting by itself:
-- that of a server which only went away would wait on, and be given the lock in its turn.
SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('eventodb turn', $1))
WHERE pg_catalog.set_config('lock_timeout', $2, true) IS NOT NULL
