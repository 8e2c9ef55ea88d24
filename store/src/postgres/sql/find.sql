SELECT m.id, m.stream, m.type, m.position, m.global_position, m.time, m.data, m.metadata
FROM pg_catalog.unnest($1) AS wanted(id)
CROSS JOIN LATERAL (SELECT * FROM {log}.messages AS candidate WHERE candidate.id = wanted.id LIMIT 1) AS m
