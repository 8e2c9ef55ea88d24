-- Two sessions that make a table at once could fail in spite of IF NOT EXISTS. The lock ends with this batch.
SELECT pg_advisory_xact_lock(hashtextextended('eventodb_group', 0));
CREATE TABLE IF NOT EXISTS eventodb_group (
    name text COLLATE "C" NOT NULL PRIMARY KEY,
    least_epoch bigint NOT NULL,
    -- The rebuild that is under way.
    rebuild uuid
);
CREATE TABLE IF NOT EXISTS eventodb_group_stream (
    group_name text COLLATE "C" NOT NULL,
    stream text COLLATE "C" NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (group_name, stream)
)
