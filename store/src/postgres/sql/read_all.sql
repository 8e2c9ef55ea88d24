-- Messages at global positions $1 to $2, at most $3 rows, and of those the ones before which fewer
-- than $4 bytes stand. $5: whether data is wanted.
SELECT id, stream, type, position, global_position, time,
       CASE WHEN $5 THEN data ELSE '' END, CASE WHEN $5 THEN metadata END
FROM (
    SELECT m.*, pg_catalog.sum(pg_catalog.octet_length(m.data) + coalesce(pg_catalog.octet_length(m.metadata), 0))
               OVER (ORDER BY m.global_position {order} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
    FROM (SELECT * FROM {log}.messages
          WHERE global_position BETWEEN $1 AND $2
          ORDER BY global_position {order} LIMIT $3) AS m
) AS slice
WHERE before IS NULL OR NOT $5 OR before < $4
ORDER BY global_position {order}
