-- A batch after the head that it names, and its messages, or nothing at all. The insertion waits for
-- a transaction that holds the same number, and does nothing where that one is committed.
WITH won AS (
    INSERT INTO {log}.batches (seq, batch_id, last_position, message_count, stream_count, time)
    SELECT head.seq + 1, $3, $4, head.message_count + cardinality($6), head.stream_count + $5,
           CASE WHEN $17 IS NULL THEN greatest(clock_timestamp(), head.time) ELSE head.time END
    FROM {log}.batches AS head
    WHERE head.seq = $1 AND head.last_position = $2 AND head.batch_id = $18
        -- Whatever the role or a pooler's session says, the commit is at least synchronous.
        AND {synchronous}
        -- Who has not waited for a turn lets one pass who has it, or waits for it. The key as in take_turn.
        AND ($19 OR pg_try_advisory_xact_lock_shared(hashtextextended('eventodb turn', {number})))
    ON CONFLICT (seq) DO NOTHING
    RETURNING time
), written AS (
    INSERT INTO {log}.messages (global_position, stream, position, starts_stream, category, stream_hash, type,
                                correlation, id, metadata, data, time)
    SELECT m.global_position, m.stream, m.position, m.starts_stream, m.category, m.stream_hash, m.type,
           m.correlation, m.id, m.metadata, m.data, coalesce(m.time, won.time)
    FROM won, unnest($6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
        AS m(global_position, stream, position, starts_stream, category, stream_hash, type,
             correlation, id, metadata, data, time)
)
SELECT time FROM won
