-- The last position of each stream, in their order.
SELECT coalesce((SELECT m.position FROM {log}.messages AS m
                 WHERE m.stream = wanted.stream ORDER BY m.position DESC LIMIT 1), -1)
FROM pg_catalog.unnest($1) WITH ORDINALITY AS wanted(stream, place)
ORDER BY wanted.place
