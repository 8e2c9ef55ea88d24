-- A token with every right, unless another server was first.
INSERT INTO eventodb.tokens (id, origin, hash, description, rights, created_at)
VALUES ($1, $2, $3, '', 15, $4)
ON CONFLICT (origin, hash) DO NOTHING
