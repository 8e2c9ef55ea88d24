-- The groups that the server keeps. store/src/storage/groups.rs says how they are used.
CREATE TABLE {log}.groups (
    name pg_catalog.text COLLATE "C" PRIMARY KEY,
    definition pg_catalog.text NOT NULL -- JSON
);

-- The state of each group: its own row, its partitions, its members. Each decision adds a row and changes none, because
-- a row that is updated often becomes slow while somebody holds a snapshot. The highest version counts. Without a state
-- the group was deleted.
CREATE TABLE {log}.group_states (
    group_name pg_catalog.text COLLATE "C" NOT NULL,
    version pg_catalog.int8 NOT NULL,
    state pg_catalog.text, -- JSON
    PRIMARY KEY (group_name, version)
);

-- Streams of which one message could not be handled. Times are milliseconds since 1970.
CREATE TABLE {log}.group_parked (
    group_name pg_catalog.text COLLATE "C" NOT NULL,
    stream pg_catalog.text COLLATE "C" NOT NULL,
    handled pg_catalog.int8 NOT NULL, -- global position
    attempts pg_catalog.int8 NOT NULL,
    reason pg_catalog.text NOT NULL,
    since pg_catalog.int8 NOT NULL,
    due pg_catalog.int8,
    rev pg_catalog.int8 NOT NULL,
    is_out pg_catalog.bool NOT NULL, -- handed out and not answered yet
    PRIMARY KEY (group_name, stream)
);

-- Memberships that ended, by member and by instance.
CREATE TABLE {log}.group_gone (
    group_name pg_catalog.text COLLATE "C" NOT NULL,
    key pg_catalog.text COLLATE "C" NOT NULL,
    reason pg_catalog.text NOT NULL,
    until pg_catalog.int8 NOT NULL, -- the row may be deleted then
    PRIMARY KEY (group_name, key)
);

-- Positions that a resize or an adoption carries over.
CREATE TABLE {log}.group_carried (
    group_name pg_catalog.text COLLATE "C" NOT NULL,
    number pg_catalog.int8 NOT NULL,
    carried pg_catalog.text NOT NULL, -- JSON
    PRIMARY KEY (group_name, number)
);

CREATE TABLE {log}.group_audit (
    group_name pg_catalog.text COLLATE "C" NOT NULL,
    id pg_catalog.int8 NOT NULL,
    at pg_catalog.int8 NOT NULL,
    token pg_catalog.text,
    act pg_catalog.text NOT NULL,
    details pg_catalog.text NOT NULL, -- JSON
    PRIMARY KEY (group_name, id)
);

-- One row: the last epoch that was given. It outlives the groups.
CREATE TABLE {log}.group_epoch (
    is_one pg_catalog.bool PRIMARY KEY DEFAULT true CHECK (is_one),
    last pg_catalog.int8 NOT NULL
);

INSERT INTO {log}.group_epoch (last) VALUES (0)
