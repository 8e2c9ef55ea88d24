-- Keeps other sessions from changing the tokens of a living namespace before the transaction ends. Returns its origin.
SELECT coalesce(origin, incarnation) FROM eventodb.namespaces WHERE name = $1 AND deleted_at IS NULL FOR NO KEY UPDATE
