DELETE FROM eventodb.tokens WHERE id = ANY ($1)
