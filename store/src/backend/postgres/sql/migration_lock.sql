-- One server migrates at a time; the lock goes with the transaction.
SELECT pg_advisory_xact_lock(hashtextextended('eventodb migration', 0))
