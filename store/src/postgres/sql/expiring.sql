-- The tokens of living namespaces that expire between $1 and $2, except those that were revoked or rotated.
SELECT t.id, n.name, t.expires_at
FROM eventodb.tokens AS t
JOIN eventodb.namespaces AS n ON coalesce(n.origin, n.incarnation) = t.origin AND n.deleted_at IS NULL
WHERE t.revoked_at IS NULL AND t.ends_at IS NULL AND t.expires_at BETWEEN $1 AND $2
ORDER BY t.expires_at, t.id
