-- Writes a batch after the head that it names, and its messages, or nothing at all: then `written_at` is null.
--
-- One call is one transaction on the node that holds the log, and no row of the batch is there without the others. The
-- positions of open streams are found after the head was, so that they are those at this head or another batch has the
-- number. All names are qualified, because the function has the search path of the session that calls it.
CREATE FUNCTION {log}.append_2(
    head_seq         bigint,   -- the head that the batch follows: its number, its last position, its id
    head_position    bigint,
    head_id          uuid,
    new_id           uuid,     -- the batch: its id, its last position, how many streams it begins beside the open ones
    new_position     bigint,
    new_streams      bigint,
    turn_of          bigint,   -- the log's number if another server's turn is to be respected, else null
    has_open         boolean,  -- whether streams are open: a position below 0 is then -1 for the next of its stream,
                               -- -2 for the one after it
    global_positions bigint[], -- the messages, a column each
    streams          text[],
    positions        bigint[],
    starts           boolean[],
    categories       text[],
    stream_hashes    bigint[],
    types            text[],
    correlations     text[],
    ids              uuid[],
    metadatas        text[],
    datas            text[],
    times            timestamptz[], -- null: that of the commit
    OUT written_at   timestamptz,
    OUT placed       bigint[]       -- the positions of all messages if streams are open, else null
) LANGUAGE plpgsql AS $append$
DECLARE
    head_messages bigint;
    head_streams  bigint;
    head_time     pg_catalog.timestamptz;
    found_streams bigint := 0;
BEGIN
    -- Whatever the role or a pooler's session says, the commit is at least synchronous.
    IF pg_catalog.current_setting('synchronous_commit') NOT IN ('on', 'remote_apply') THEN
        PERFORM pg_catalog.set_config('synchronous_commit', 'on', true);
    END IF;
    SELECT head.message_count, head.stream_count, head.time INTO head_messages, head_streams, head_time
    FROM {log}.batches AS head
    WHERE head.seq = head_seq AND head.last_position = head_position AND head.batch_id = head_id;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    -- A server that has not waited for its turn lets a server pass that has its turn, or waits for it.
    IF turn_of IS NOT NULL AND NOT pg_catalog.pg_try_advisory_xact_lock_shared(
                                       pg_catalog.hashtextextended('eventodb turn', turn_of)) THEN
        RETURN;
    END IF;
    IF has_open THEN
        SELECT pg_catalog.array_agg(found.position ORDER BY m.place),
               pg_catalog.count(*) FILTER (WHERE m.given < 0 AND found.position = 0)
        INTO placed, found_streams
        FROM ROWS FROM (pg_catalog.unnest(streams), pg_catalog.unnest(positions)) WITH ORDINALITY AS m(stream, given, place)
        CROSS JOIN LATERAL (
            -- Multiplied by 1024, a position above 2^53-1 is no bigint any more: the whole append is refused (22003).
            SELECT CASE WHEN m.given >= 0 THEN m.given
                        ELSE (coalesce((SELECT before.position FROM {log}.messages AS before
                                        WHERE before.stream = m.stream ORDER BY before.position DESC LIMIT 1), -1)
                              - m.given) * 1024 / 1024
                   END AS position
            -- Keeps the planner from writing the expression down twice, and PostgreSQL from looking twice.
            OFFSET 0
        ) AS found;
    END IF;
    written_at := CASE WHEN times IS NULL THEN greatest(pg_catalog.clock_timestamp(), head_time) ELSE head_time END;
    -- Waits for a transaction that holds the same number, and does nothing where that one is committed.
    INSERT INTO {log}.batches (seq, batch_id, last_position, message_count, stream_count, time)
    VALUES (head_seq + 1, new_id, new_position, head_messages + pg_catalog.cardinality(ids),
            head_streams + new_streams + found_streams, written_at)
    ON CONFLICT (seq) DO NOTHING;
    IF NOT FOUND THEN
        written_at := NULL;
        RETURN;
    END IF;
    INSERT INTO {log}.messages (global_position, stream, position, starts_stream, category, stream_hash, type,
                                correlation, id, metadata, data, time)
    SELECT m.global_position, m.stream, m.position, m.starts_stream OR m.position = 0, m.category, m.stream_hash,
           m.type, m.correlation, m.id, m.metadata, m.data, coalesce(m.time, written_at)
    -- In the select list the arrays are taken apart in step; in FROM each would be stored first.
    FROM (SELECT pg_catalog.unnest(global_positions) AS global_position, pg_catalog.unnest(streams) AS stream,
                 pg_catalog.unnest(coalesce(placed, positions)) AS position, pg_catalog.unnest(starts) AS starts_stream,
                 pg_catalog.unnest(categories) AS category, pg_catalog.unnest(stream_hashes) AS stream_hash,
                 pg_catalog.unnest(types) AS type, pg_catalog.unnest(correlations) AS correlation,
                 pg_catalog.unnest(ids) AS id, pg_catalog.unnest(metadatas) AS metadata,
                 pg_catalog.unnest(datas) AS data, pg_catalog.unnest(times) AS time) AS m;
END
$append$
