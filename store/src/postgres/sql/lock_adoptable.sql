-- Keeps other sessions from changing the tokens of a namespace before the transaction ends, if its row has this token still.
SELECT incarnation FROM eventodb.namespaces
WHERE coalesce(origin, incarnation) = $1 AND token_hash = $2 AND deleted_at IS NULL FOR NO KEY UPDATE
