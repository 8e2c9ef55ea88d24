-- The log of one incarnation: every message, by global position, and nothing else to keep up to date.
-- What indexing needs stands before metadata and data, so that it is read without them.
CREATE TABLE log.messages (
    global_position INTEGER PRIMARY KEY,
    stream          TEXT    NOT NULL,
    position        INTEGER NOT NULL,
    starts_stream   INTEGER NOT NULL, -- 1 for the first message of its stream, else 0
    id              BLOB    NOT NULL, -- 16 bytes
    type            TEXT    NOT NULL,
    correlation     TEXT,             -- category of metadata.correlationStreamName
    time            INTEGER NOT NULL, -- microseconds since 1970
    metadata        TEXT,
    data            TEXT    NOT NULL
) STRICT;

-- One row: what tells this log from every other.
CREATE TABLE log.identity (
    identity BLOB NOT NULL -- 16 random bytes
) STRICT;

INSERT INTO log.identity VALUES (randomblob(16));

-- At most one row: where the last import ended, and the time of the last written message before it.
-- Up to there positions may have gaps.
CREATE TABLE log.imports (
    last_position INTEGER NOT NULL,
    written_time  INTEGER NOT NULL
) STRICT;
