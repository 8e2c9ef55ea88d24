-- Messages that pass the filter, in a window: at global positions $5 to $6, at most $9 rows, and of those the ones before
-- which fewer than $10 bytes stand. $11: whether data is wanted. Only the index is looked at for the filter ($1 to $4).
-- If the window is exhausted, a last row without id has the next position at $7 to $8, behind it.
WITH hits AS MATERIALIZED (
    SELECT m.global_position FROM {log}.messages AS m
    WHERE m.global_position BETWEEN $5 AND $6
      AND {passes}
    ORDER BY m.global_position {order} LIMIT $9
)
(SELECT id, stream, type, position, global_position, time,
        CASE WHEN $11 THEN data ELSE '' END, CASE WHEN $11 THEN metadata END
 FROM (
     SELECT m.*, pg_catalog.sum(pg_catalog.octet_length(m.data) + coalesce(pg_catalog.octet_length(m.metadata), 0))
                OVER (ORDER BY m.global_position {order} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
     FROM hits
     CROSS JOIN LATERAL (SELECT * FROM {log}.messages AS candidate
                         WHERE candidate.global_position = hits.global_position LIMIT 1) AS m
 ) AS slice
 WHERE before IS NULL OR NOT $11 OR before < $10)
UNION ALL
SELECT NULL, '', '', 0,
       (SELECT m.global_position FROM {log}.messages AS m WHERE m.global_position BETWEEN $7 AND $8
        ORDER BY m.global_position {order} LIMIT 1),
       'epoch', '', NULL
WHERE (SELECT pg_catalog.count(*) FROM hits) < $9
