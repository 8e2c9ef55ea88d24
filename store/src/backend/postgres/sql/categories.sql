-- What was folded, and what was written since.
SELECT category, pg_catalog.sum(stream_count)::bigint, pg_catalog.sum(message_count)::bigint
FROM (
    SELECT category, stream_count, message_count FROM {log}.categories
    UNION ALL
    SELECT category, pg_catalog.count(*) FILTER (WHERE starts_stream), pg_catalog.count(*) FROM {log}.messages
    WHERE global_position > (SELECT position FROM {log}.folded)
    GROUP BY category
) AS parts
GROUP BY category
ORDER BY category
