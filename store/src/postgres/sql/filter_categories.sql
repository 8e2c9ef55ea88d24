-- Messages of the categories $1 that pass the filter, in a window: at global positions $2 to $3, at most
-- $6 rows, and of those the ones before which fewer than $7 bytes stand. $8: whether data is wanted.
-- The filter is read from the index: member $10 of $9, types $11, correlation $12; null means any.
-- A last row without id tells, where the window is exhausted, the next position of these categories
-- at $4 to $5, behind the window.
WITH hits AS MATERIALIZED (
    SELECT hit.global_position
    FROM pg_catalog.unnest($1) AS wanted(category)
    CROSS JOIN LATERAL (
        SELECT m.global_position FROM {log}.messages AS m
        WHERE m.category = wanted.category AND m.global_position BETWEEN $2 AND $3
              AND ($9 IS NULL OR -((CASE WHEN m.stream_hash > 0 THEN -m.stream_hash ELSE m.stream_hash END) % $9) = $10)
              AND ($11 IS NULL OR m.type = ANY ($11))
              AND ($12 IS NULL OR m.correlation = $12)
        ORDER BY m.global_position {order} LIMIT $6
    ) AS hit
    ORDER BY hit.global_position {order} LIMIT $6
)
(SELECT id, stream, type, position, global_position, time,
        CASE WHEN $8 THEN data ELSE '' END, CASE WHEN $8 THEN metadata END
 FROM (
     SELECT m.*, pg_catalog.sum(pg_catalog.octet_length(m.data) + coalesce(pg_catalog.octet_length(m.metadata), 0))
                OVER (ORDER BY m.global_position {order} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
     FROM hits
     CROSS JOIN LATERAL (SELECT * FROM {log}.messages AS candidate
                         WHERE candidate.global_position = hits.global_position LIMIT 1) AS m
 ) AS slice
 WHERE before IS NULL OR NOT $8 OR before < $7)
UNION ALL
SELECT NULL, '', '', 0,
       (SELECT next.global_position
        FROM pg_catalog.unnest($1) AS wanted(category)
        CROSS JOIN LATERAL (
            SELECT m.global_position FROM {log}.messages AS m
            WHERE m.category = wanted.category AND m.global_position BETWEEN $4 AND $5
            ORDER BY m.global_position {order} LIMIT 1
        ) AS next
        ORDER BY next.global_position {order} LIMIT 1),
       'epoch', '', NULL
WHERE (SELECT pg_catalog.count(*) FROM hits) < $6
