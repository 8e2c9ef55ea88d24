-- Messages of category $1 at global positions $2 to $3, at most $4 rows, and of those the ones before
-- which fewer than $5 bytes stand. $6: whether data is wanted.
SELECT id, stream, type, position, global_position, time,
       CASE WHEN $6 THEN data ELSE '' END, CASE WHEN $6 THEN metadata END
FROM (
    SELECT m.*, sum(octet_length(m.data) + coalesce(octet_length(m.metadata), 0))
               OVER (ORDER BY m.global_position {order} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
    FROM (SELECT * FROM {log}.messages
          -- Written as a range of the index on (category, global_position), in the order that only it
          -- has: with `category = $1` the planner likes to walk all messages by position instead.
          WHERE (category, global_position) >= ($1, $2) AND (category, global_position) <= ($1, $3)
          ORDER BY category {order}, global_position {order} LIMIT $4) AS m
) AS slice
WHERE before IS NULL OR NOT $6 OR before < $5
ORDER BY global_position {order}
