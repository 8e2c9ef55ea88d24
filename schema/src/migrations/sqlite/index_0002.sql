-- Entries stand in runs, each a row. The index is built anew.
DROP TABLE idx.stream_entries;
DROP TABLE idx.category_entries;
DELETE FROM idx.streams;
DELETE FROM idx.categories;
DELETE FROM idx.ids;
DELETE FROM idx.progress;

-- A run is of messages that follow each other in a stream. Its form is that of `store/src/sqlite/runs.rs`.
CREATE TABLE idx.stream_runs (
    stream_id            INTEGER NOT NULL,
    last_position        INTEGER NOT NULL,
    last_global_position INTEGER NOT NULL,
    run                  BLOB    NOT NULL,
    PRIMARY KEY (stream_id, last_position)
) STRICT, WITHOUT ROWID;

-- The same of a category.
CREATE TABLE idx.category_runs (
    category_id          INTEGER NOT NULL,
    last_global_position INTEGER NOT NULL,
    run                  BLOB    NOT NULL,
    PRIMARY KEY (category_id, last_global_position)
) STRICT, WITHOUT ROWID;
