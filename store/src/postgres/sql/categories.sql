-- Categories whose name begins with $1 and stands after $2 (null: all), at most $3: what was folded, and what was written
-- since. A name among the first $3 of both together is among the first $3 of each that has it.
SELECT category, pg_catalog.sum(stream_count)::bigint, pg_catalog.sum(message_count)::bigint
FROM (
    (SELECT category, stream_count, message_count FROM {log}.categories
     WHERE category >= $1 AND ($2 IS NULL OR category > $2) AND pg_catalog.starts_with(category, $1)
     ORDER BY category LIMIT $3)
    UNION ALL
    (SELECT category, pg_catalog.count(*) FILTER (WHERE starts_stream), pg_catalog.count(*) FROM {log}.messages
     WHERE global_position > (SELECT position FROM {log}.folded)
     AND ($2 IS NULL OR category > $2) AND pg_catalog.starts_with(category, $1)
     GROUP BY category
     ORDER BY category LIMIT $3)
) AS parts
GROUP BY category
ORDER BY category
LIMIT $3
