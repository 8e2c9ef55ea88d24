-- Messages that pass the filter, in a window: at global positions $1 to $2, at most $5 rows, and of those
-- the ones before which fewer than $6 bytes stand. $7: whether data is wanted. The filter is read
-- from the index: member $9 of $8, types $10, correlation $11; null means any.
-- A last row without id tells, where the window is exhausted, the next position at $3 to $4, behind it.
WITH hits AS MATERIALIZED (
    SELECT m.global_position FROM {log}.messages AS m
    WHERE m.global_position BETWEEN $1 AND $2
              AND ($8 IS NULL OR -((CASE WHEN m.stream_hash > 0 THEN -m.stream_hash ELSE m.stream_hash END) % $8) = $9)
              AND ($10 IS NULL OR m.type = ANY ($10))
              AND ($11 IS NULL OR m.correlation = $11)
    ORDER BY m.global_position {order} LIMIT $5
)
(SELECT id, stream, type, position, global_position, time,
        CASE WHEN $7 THEN data ELSE '' END, CASE WHEN $7 THEN metadata END
 FROM (
     SELECT m.*, pg_catalog.sum(pg_catalog.octet_length(m.data) + coalesce(pg_catalog.octet_length(m.metadata), 0))
                OVER (ORDER BY m.global_position {order} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
     FROM hits
     CROSS JOIN LATERAL (SELECT * FROM {log}.messages AS candidate
                         WHERE candidate.global_position = hits.global_position LIMIT 1) AS m
 ) AS slice
 WHERE before IS NULL OR NOT $7 OR before < $6)
UNION ALL
SELECT NULL, '', '', 0,
       (SELECT m.global_position FROM {log}.messages AS m WHERE m.global_position BETWEEN $3 AND $4
        ORDER BY m.global_position {order} LIMIT 1),
       'epoch', '', NULL
WHERE (SELECT pg_catalog.count(*) FROM hits) < $5
