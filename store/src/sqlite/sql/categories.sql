SELECT name, stream_count, message_count FROM idx.categories WHERE name >= ?1 ORDER BY name LIMIT ?2
