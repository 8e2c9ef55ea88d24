CREATE TABLE IF NOT EXISTS eventodb_group (
    name TEXT NOT NULL PRIMARY KEY,
    least_epoch INTEGER NOT NULL,
    -- The rebuild that is under way.
    rebuild TEXT
) STRICT;
CREATE TABLE IF NOT EXISTS eventodb_group_stream (
    group_name TEXT NOT NULL,
    stream TEXT NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (group_name, stream)
) STRICT, WITHOUT ROWID;
