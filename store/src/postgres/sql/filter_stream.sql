-- Messages of stream $5 that pass the filter ($1 to $4), in a window: at stream positions $6 to $7, at most $10 rows, and
-- of those the ones before which fewer than $11 bytes stand. $12: whether data is wanted. If the window is exhausted, a
-- last row without id has the next position of the stream at $8 to $9, behind it.
WITH hits AS MATERIALIZED (
    SELECT m.position FROM {log}.messages AS m
    WHERE m.stream = $5 AND m.position BETWEEN $6 AND $7
      AND {passes}
    ORDER BY m.position {order} LIMIT $10
)
(SELECT id, stream, type, position, global_position, time,
        CASE WHEN $12 THEN data ELSE '' END, CASE WHEN $12 THEN metadata END
 FROM (
     SELECT m.*, pg_catalog.sum(pg_catalog.octet_length(m.data) + coalesce(pg_catalog.octet_length(m.metadata), 0))
                OVER (ORDER BY m.position {order} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
     FROM hits
     CROSS JOIN LATERAL (SELECT * FROM {log}.messages AS candidate
                         WHERE candidate.stream = $5 AND candidate.position = hits.position LIMIT 1) AS m
 ) AS slice
 WHERE before IS NULL OR NOT $12 OR before < $11)
UNION ALL
SELECT NULL, '', '', next.position, next.global_position, 'epoch', '', NULL
FROM (SELECT pg_catalog.count(*) AS rows FROM hits) AS found
LEFT JOIN LATERAL (SELECT m.position, m.global_position FROM {log}.messages AS m
                   WHERE m.stream = $5 AND m.position BETWEEN $8 AND $9
                   ORDER BY m.position {order} LIMIT 1) AS next ON true
WHERE found.rows < $10
