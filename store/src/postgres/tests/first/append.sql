-- The append of servers before the schema had functions.
WITH placed AS MATERIALIZED (
    SELECT CASE WHEN $20 THEN (
        SELECT pg_catalog.array_agg(
            CASE WHEN m.position >= 0 THEN m.position
                 ELSE (coalesce((SELECT before.position FROM {log}.messages AS before WHERE before.stream = m.stream
                                 ORDER BY before.position DESC LIMIT 1), -1) - m.position) * 1024 / 1024
            END ORDER BY m.place)
        FROM ROWS FROM (pg_catalog.unnest($7), pg_catalog.unnest($8)) WITH ORDINALITY AS m(stream, position, place)
    ) ELSE $8 END AS positions
), won AS (
    INSERT INTO {log}.batches (seq, batch_id, last_position, message_count, stream_count, time)
    SELECT head.seq + 1, $3, $4, head.message_count + pg_catalog.cardinality($6),
           head.stream_count + $5 + CASE WHEN $20 THEN (
               SELECT pg_catalog.count(*)
               FROM ROWS FROM (pg_catalog.unnest($8), pg_catalog.unnest(placed.positions)) AS m(given, found)
               WHERE m.given < 0 AND m.found = 0
           ) ELSE 0 END,
           CASE WHEN $17 IS NULL THEN greatest(pg_catalog.clock_timestamp(), head.time) ELSE head.time END
    FROM {log}.batches AS head CROSS JOIN placed
    WHERE head.seq = $1 AND head.last_position = $2 AND head.batch_id = $18
        AND {synchronous}
        AND ($19 OR pg_catalog.pg_try_advisory_xact_lock_shared(pg_catalog.hashtextextended('eventodb turn', {number})))
    ON CONFLICT (seq) DO NOTHING
    RETURNING time
), written AS (
    INSERT INTO {log}.messages (global_position, stream, position, starts_stream, category, stream_hash, type,
                                correlation, id, metadata, data, time)
    SELECT m.global_position, m.stream, m.position, m.starts_stream OR m.position = 0, m.category, m.stream_hash,
           m.type, m.correlation, m.id, m.metadata, m.data, coalesce(m.time, won.time)
    FROM won CROSS JOIN placed
    CROSS JOIN LATERAL (SELECT pg_catalog.unnest($6) AS global_position, pg_catalog.unnest($7) AS stream,
                               pg_catalog.unnest(placed.positions) AS position, pg_catalog.unnest($9) AS starts_stream,
                               pg_catalog.unnest($10) AS category, pg_catalog.unnest($11) AS stream_hash,
                               pg_catalog.unnest($12) AS type, pg_catalog.unnest($13) AS correlation,
                               pg_catalog.unnest($14) AS id, pg_catalog.unnest($15) AS metadata,
                               pg_catalog.unnest($16) AS data, pg_catalog.unnest($17) AS time) AS m
)
SELECT won.time, CASE WHEN $20 THEN placed.positions END FROM won CROSS JOIN placed
