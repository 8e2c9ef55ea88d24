-- The lock by which servers that write to one log take turns; it goes with the transaction. Appends try
-- the same one, shared.
-- The text keeps it apart from what others lock in this database.
SELECT pg_advisory_xact_lock(hashtextextended('eventodb turn', $1))
