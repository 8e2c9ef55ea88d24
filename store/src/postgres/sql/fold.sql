-- Adds the next $2 messages above $1, which is what `folded` says and keeps saying under its lock.
WITH chunk AS MATERIALIZED (
    SELECT global_position, category, starts_stream FROM {log}.messages
    WHERE global_position > $1 ORDER BY global_position LIMIT $2
), added AS (
    INSERT INTO {log}.categories AS known (category, stream_count, message_count)
    SELECT category, pg_catalog.count(*) FILTER (WHERE starts_stream), pg_catalog.count(*) FROM chunk GROUP BY category
    ON CONFLICT (category) DO UPDATE SET stream_count = known.stream_count + excluded.stream_count,
                                         message_count = known.message_count + excluded.message_count
), moved AS (
    UPDATE {log}.folded SET position = (SELECT pg_catalog.max(global_position) FROM chunk)
    WHERE EXISTS (SELECT FROM chunk)
)
SELECT pg_catalog.count(*) FROM chunk
