-- The first global position up to $2 whose message is at or after time $1; one above $2 if there is none: a binary search,
-- as times ascend with positions. Messages before `low` are earlier; from `high` on none is.
WITH RECURSIVE search(low, high) AS (
    SELECT 1::bigint, $2 + 1
    UNION ALL
    SELECT CASE WHEN probe.time < $1 THEN probe.global_position + 1 ELSE search.low END,
           CASE WHEN probe.time < $1 THEN search.high ELSE middle.position END
    FROM search
    CROSS JOIN LATERAL (SELECT search.low + (search.high - search.low) / 2 AS position) AS middle
    LEFT JOIN LATERAL (SELECT m.global_position, m.time FROM {log}.messages AS m
                       WHERE m.global_position >= middle.position AND m.global_position <= $2
                       ORDER BY m.global_position LIMIT 1) AS probe ON true
    WHERE search.low < search.high
)
SELECT coalesce((SELECT m.global_position FROM {log}.messages AS m
                 WHERE m.global_position >= search.low AND m.global_position <= $2
                 ORDER BY m.global_position LIMIT 1), $2 + 1)
FROM search WHERE search.low >= search.high
