SELECT name FROM idx.categories ORDER BY message_count DESC LIMIT ?1
