-- The groups that the server keeps. `store/src/storage/groups.rs` says how they are used.
CREATE TABLE log.groups (
    name       TEXT    NOT NULL PRIMARY KEY,
    version    INTEGER NOT NULL,
    definition TEXT    NOT NULL, -- JSON
    state      TEXT    NOT NULL  -- JSON: the group's own row, its partitions, its members
) STRICT, WITHOUT ROWID;

-- Streams of which one message could not be handled. Times are milliseconds since 1970.
CREATE TABLE log.group_parked (
    group_name TEXT    NOT NULL,
    stream     TEXT    NOT NULL,
    handled    INTEGER NOT NULL, -- global position
    attempts   INTEGER NOT NULL,
    reason     TEXT    NOT NULL,
    since      INTEGER NOT NULL,
    due        INTEGER,
    rev        INTEGER NOT NULL,
    is_out     INTEGER NOT NULL, -- 1 if it was handed out and not answered yet, else 0
    PRIMARY KEY (group_name, stream)
) STRICT, WITHOUT ROWID;

-- Memberships that ended, by member and by instance.
CREATE TABLE log.group_gone (
    group_name TEXT    NOT NULL,
    key        TEXT    NOT NULL,
    reason     TEXT    NOT NULL,
    until      INTEGER NOT NULL, -- the row may be deleted then
    PRIMARY KEY (group_name, key)
) STRICT, WITHOUT ROWID;

-- Positions that a resize or an adoption carries over.
CREATE TABLE log.group_carried (
    group_name TEXT    NOT NULL,
    number     INTEGER NOT NULL,
    carried    TEXT    NOT NULL, -- JSON
    PRIMARY KEY (group_name, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE log.group_audit (
    group_name TEXT    NOT NULL,
    id         INTEGER NOT NULL,
    at         INTEGER NOT NULL,
    token      TEXT,
    act        TEXT    NOT NULL,
    details    TEXT    NOT NULL, -- JSON
    PRIMARY KEY (group_name, id)
) STRICT, WITHOUT ROWID;

-- One row: the last epoch that was given. It outlives the groups.
CREATE TABLE log.group_epoch (
    last INTEGER NOT NULL
) STRICT;

INSERT INTO log.group_epoch VALUES (0);
