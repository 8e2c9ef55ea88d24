-- The first position of stream $1 whose global position is at least $2: a binary search, as both ascend
-- together. Below `low` all are too small; from `high` on none is.
WITH RECURSIVE search(low, high) AS (
    SELECT 0::bigint, coalesce((SELECT least(m.position, 9223372036854775806) + 1 FROM {log}.messages AS m
                                WHERE m.stream = $1 ORDER BY m.position DESC LIMIT 1), 0)
    UNION ALL
    SELECT CASE WHEN probe.global_position < $2 THEN least(probe.position, 9223372036854775806) + 1 ELSE search.low END,
           CASE WHEN probe.global_position < $2 THEN search.high ELSE middle.position END
    FROM search
    CROSS JOIN LATERAL (SELECT search.low + (search.high - search.low) / 2 AS position) AS middle
    CROSS JOIN LATERAL (SELECT m.position, m.global_position FROM {log}.messages AS m
                        WHERE m.stream = $1 AND m.position >= middle.position
                        ORDER BY m.position LIMIT 1) AS probe
    WHERE search.low < search.high
)
SELECT low FROM search WHERE low >= high
