-- Servers of earlier versions know one token of a namespace: instead of $2, which has ended, $3.
UPDATE eventodb.namespaces SET token_hash = $3 WHERE name = $1 AND deleted_at IS NULL AND token_hash = $2
