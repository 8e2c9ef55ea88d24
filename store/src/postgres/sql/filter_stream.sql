-- Messages of stream $1 that pass the filter, in a window: at stream positions $2 to $3, at most $6 rows,
-- and of those the ones before which fewer than $7 bytes stand. $8: whether data is wanted. Member
-- $10 of $9, types $11, correlation $12; null means any. A last row without id tells, where the
-- window is exhausted, the next position of the stream at $4 to $5, behind the window.
WITH hits AS MATERIALIZED (
    SELECT m.position FROM {log}.messages AS m
    WHERE m.stream = $1 AND m.position BETWEEN $2 AND $3
              AND ($9 IS NULL OR -((CASE WHEN m.stream_hash > 0 THEN -m.stream_hash ELSE m.stream_hash END) % $9) = $10)
              AND ($11 IS NULL OR m.type = ANY ($11))
              AND ($12 IS NULL OR m.correlation = $12)
    ORDER BY m.position {order} LIMIT $6
)
(SELECT id, stream, type, position, global_position, time,
        CASE WHEN $8 THEN data ELSE '' END, CASE WHEN $8 THEN metadata END
 FROM (
     SELECT m.*, pg_catalog.sum(pg_catalog.octet_length(m.data) + coalesce(pg_catalog.octet_length(m.metadata), 0))
                OVER (ORDER BY m.position {order} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
     FROM hits
     CROSS JOIN LATERAL (SELECT * FROM {log}.messages AS candidate
                         WHERE candidate.stream = $1 AND candidate.position = hits.position LIMIT 1) AS m
 ) AS slice
 WHERE before IS NULL OR NOT $8 OR before < $7)
UNION ALL
SELECT NULL, '', '', next.position, next.global_position, 'epoch', '', NULL
FROM (SELECT pg_catalog.count(*) AS rows FROM hits) AS found
LEFT JOIN LATERAL (SELECT m.position, m.global_position FROM {log}.messages AS m
                   WHERE m.stream = $1 AND m.position BETWEEN $4 AND $5
                   ORDER BY m.position {order} LIMIT 1) AS next ON true
WHERE found.rows < $6
