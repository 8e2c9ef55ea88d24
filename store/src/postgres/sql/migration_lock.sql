-- One server migrates at a time; the lock goes with the transaction.
SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('eventodb migration', 0))
