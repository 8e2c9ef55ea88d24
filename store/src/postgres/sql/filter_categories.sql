-- Messages of the categories $5 that pass the filter, in a window: at global positions $6 to $7, at most $10 rows, and of
-- those the ones before which fewer than $11 bytes stand. $12: whether data is wanted. Only the index is looked at for the
-- filter ($1 to $4). If the window is exhausted, a last row without id has the next position of these categories at $8 to
-- $9, behind it.
WITH hits AS MATERIALIZED (
    SELECT hit.global_position
    FROM pg_catalog.unnest($5) AS wanted(category)
    CROSS JOIN LATERAL (
        SELECT m.global_position FROM {log}.messages AS m
        -- The second condition: see read_category.
        WHERE m.category = wanted.category AND m.category BETWEEN wanted.category AND wanted.category
          AND m.global_position BETWEEN $6 AND $7
          AND {passes}
        ORDER BY m.global_position {order} LIMIT $10
    ) AS hit
    ORDER BY hit.global_position {order} LIMIT $10
)
(SELECT id, stream, type, position, global_position, time,
        CASE WHEN $12 THEN data ELSE '' END, CASE WHEN $12 THEN metadata END
 FROM (
     SELECT m.*, pg_catalog.sum(pg_catalog.octet_length(m.data) + coalesce(pg_catalog.octet_length(m.metadata), 0))
                OVER (ORDER BY m.global_position {order} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
     FROM hits
     CROSS JOIN LATERAL (SELECT * FROM {log}.messages AS candidate
                         WHERE candidate.global_position = hits.global_position LIMIT 1) AS m
 ) AS slice
 WHERE before IS NULL OR NOT $12 OR before < $11)
UNION ALL
SELECT NULL, '', '', 0,
       (SELECT next.global_position
        FROM pg_catalog.unnest($5) AS wanted(category)
        CROSS JOIN LATERAL (
            SELECT m.global_position FROM {log}.messages AS m
            WHERE m.category = wanted.category AND m.category BETWEEN wanted.category AND wanted.category
              AND m.global_position BETWEEN $8 AND $9
            ORDER BY m.global_position {order} LIMIT 1
        ) AS next
        ORDER BY next.global_position {order} LIMIT 1),
       'epoch', '', NULL
WHERE (SELECT pg_catalog.count(*) FROM hits) < $10
