-- The log of one incarnation. `{log}` stands for its schema.

-- One row per commit; its number is the compare-and-set of the log's head, and no row is ever
-- updated. Counts are those of the log once the batch is in it. A batch without messages is a fence.
-- Old rows are deleted in the background, the newest never.
CREATE TABLE {log}.batches (
    seq           bigint      PRIMARY KEY,
    batch_id      uuid        NOT NULL,
    last_position bigint,              -- null: the namespace was deleted, nothing can follow
    message_count bigint      NOT NULL,
    stream_count  bigint      NOT NULL,
    time          timestamptz NOT NULL -- time of the last written message
);

INSERT INTO {log}.batches VALUES (0, '00000000-0000-0000-0000-000000000000', 0, 0, 0, 'epoch');

-- Filters look at index columns only, which is why both indexes in global order carry them.
CREATE TABLE {log}.messages (
    global_position bigint      NOT NULL,
    stream          text        COLLATE "C" NOT NULL,
    position        bigint      NOT NULL,
    starts_stream   boolean     NOT NULL, -- whether it is the first of its stream
    category        text        COLLATE "C" NOT NULL,
    stream_hash     bigint      NOT NULL, -- as the members of a consumer group are chosen by
    type            text        COLLATE "C" NOT NULL,
    correlation     text        COLLATE "C", -- category of metadata.correlationStreamName
    id              uuid        NOT NULL,
    time            timestamptz NOT NULL,
    metadata        text,
    data            text        NOT NULL,
    CONSTRAINT messages_global_position PRIMARY KEY (global_position) INCLUDE (stream_hash, type, correlation),
    CONSTRAINT messages_stream_position UNIQUE (stream, position),
    CONSTRAINT messages_id UNIQUE (id)
) WITH (autovacuum_vacuum_insert_scale_factor = 0.02, autovacuum_vacuum_insert_threshold = 50000,
        autovacuum_analyze_scale_factor = 0.05);

CREATE INDEX messages_category ON {log}.messages (category, global_position)
    INCLUDE (stream_hash, type, correlation);

-- Servers of the first version need this hint: the planner shall take each category for rare, so that it follows the index
-- above. Told how common they are on average, it walks all messages by position for one that is rare. Citus refuses it.
DO $hint$ BEGIN
    ALTER TABLE {log}.messages ALTER COLUMN category SET (n_distinct = -1);
EXCEPTION WHEN OTHERS THEN
    NULL;
END $hint$;

-- What each category holds up to the position in `folded`; what is above is counted when it is read.
CREATE TABLE {log}.categories (
    category      text   COLLATE "C" PRIMARY KEY,
    stream_count  bigint NOT NULL,
    message_count bigint NOT NULL
);

-- One row.
CREATE TABLE {log}.folded (
    position bigint NOT NULL
);

INSERT INTO {log}.folded VALUES (0);
