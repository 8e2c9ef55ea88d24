SELECT name FROM idx.streams WHERE name >= ?1 AND name > ?2 ORDER BY name LIMIT ?3
