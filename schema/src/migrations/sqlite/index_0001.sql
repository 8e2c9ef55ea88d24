-- Derived from the log up to its completion position; rebuilt where it is missing or does not fit.
-- A stream's id is the global position of its first message, a category's likewise.
CREATE TABLE idx.streams (
    name      TEXT    NOT NULL PRIMARY KEY,
    stream_id INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE idx.stream_entries (
    stream_id       INTEGER NOT NULL,
    position        INTEGER NOT NULL,
    global_position INTEGER NOT NULL,
    type_hash       INTEGER NOT NULL,
    PRIMARY KEY (stream_id, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE idx.categories (
    name          TEXT    NOT NULL PRIMARY KEY,
    category_id   INTEGER NOT NULL,
    stream_count  INTEGER NOT NULL,
    message_count INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE idx.category_entries (
    category_id      INTEGER NOT NULL,
    global_position  INTEGER NOT NULL,
    stream_hash      INTEGER NOT NULL, -- as the members of a consumer group are chosen by
    type_hash        INTEGER NOT NULL,
    correlation_hash INTEGER,
    PRIMARY KEY (category_id, global_position)
) STRICT, WITHOUT ROWID;

CREATE TABLE idx.ids (
    id              BLOB    NOT NULL PRIMARY KEY,
    global_position INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- One row: which log this belongs to and how far it reaches.
CREATE TABLE idx.progress (
    log_identity  BLOB    NOT NULL,
    session       BLOB    NOT NULL, -- random, anew with each change: tells one state of this file from another
    base          BLOB,             -- the session that the file had when its write-ahead log last began anew
    completion    INTEGER NOT NULL, -- global position up to which every message is indexed
    completion_id BLOB,             -- id of the message there; null while completion is 0
    message_count INTEGER NOT NULL,
    stream_count  INTEGER NOT NULL
) STRICT;
