-- Streams whose name begins with $1 and stands after $2, at most $3: from each to the next by one look
-- into the index, however many messages it has.
WITH RECURSIVE page(stream, place) AS (
    (SELECT m.stream, 1::bigint FROM {log}.messages AS m
     WHERE m.stream >= $1 AND m.stream > $2
     ORDER BY m.stream, m.position LIMIT 1)
    UNION ALL
    SELECT next.stream, page.place + 1
    FROM page
    CROSS JOIN LATERAL (SELECT m.stream FROM {log}.messages AS m WHERE m.stream > page.stream
                        ORDER BY m.stream, m.position LIMIT 1) AS next
    WHERE page.place < $3 AND pg_catalog.starts_with(next.stream, $1)
)
SELECT page.stream, newest.position, newest.time
FROM page
CROSS JOIN LATERAL (SELECT m.position, m.time FROM {log}.messages AS m WHERE m.stream = page.stream
                    ORDER BY m.position DESC LIMIT 1) AS newest
WHERE pg_catalog.starts_with(page.stream, $1)
ORDER BY page.place
