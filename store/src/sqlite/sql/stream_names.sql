SELECT name FROM idx.streams WHERE name >= ?1 ORDER BY name LIMIT ?2
