-- Messages of category $1 at global positions $2 to $3, at most $4 rows, and of those the ones before
-- which fewer than $5 bytes stand. $6: whether data is wanted.
SELECT id, stream, type, position, global_position, time,
       CASE WHEN $6 THEN data ELSE '' END, CASE WHEN $6 THEN metadata END
FROM (
    SELECT m.*, pg_catalog.sum(pg_catalog.octet_length(m.data) + coalesce(pg_catalog.octet_length(m.metadata), 0))
               OVER (ORDER BY m.global_position {order} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
    FROM (SELECT * FROM {log}.messages
          -- In a subquery the value is unknown to the planner also where nothing is prepared. That it lies between itself
          -- and itself makes the planner take every category for rare, whatever the statistics say: it then follows the
          -- index by category, and does not walk all messages for one that is rare.
          WHERE category = (SELECT $1) AND category BETWEEN (SELECT $1) AND (SELECT $1)
            AND global_position BETWEEN $2 AND $3
          ORDER BY global_position {order} LIMIT $4) AS m
) AS slice
WHERE before IS NULL OR NOT $6 OR before < $5
ORDER BY global_position {order}
