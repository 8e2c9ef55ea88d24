-- What was folded, and what was written since.
SELECT category, sum(stream_count)::bigint, sum(message_count)::bigint
FROM (
    SELECT category, stream_count, message_count FROM {log}.categories
    UNION ALL
    SELECT category, count(*) FILTER (WHERE starts_stream), count(*) FROM {log}.messages
    WHERE global_position > (SELECT position FROM {log}.folded)
    GROUP BY category
) AS parts
GROUP BY category
ORDER BY category
