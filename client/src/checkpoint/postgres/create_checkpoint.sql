-- Two sessions that make the table at once could fail in spite of IF NOT EXISTS. The lock ends with this batch.
SELECT pg_advisory_xact_lock(hashtextextended('eventodb_checkpoint', 0));
CREATE TABLE IF NOT EXISTS eventodb_checkpoint (
    consumer text COLLATE "C" NOT NULL PRIMARY KEY,
    position bigint NOT NULL
)
