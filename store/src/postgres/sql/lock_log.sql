-- Waits for the append that is under way and holds up the next, until the transaction ends.
LOCK TABLE {log}.batches IN SHARE ROW EXCLUSIVE MODE
