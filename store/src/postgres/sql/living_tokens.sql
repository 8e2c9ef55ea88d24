-- Which of these tokens are not revoked, and when they end because they were rotated.
SELECT t.id, t.ends_at
FROM eventodb.tokens AS t
JOIN eventodb.namespaces AS n ON coalesce(n.origin, n.incarnation) = t.origin AND n.deleted_at IS NULL
WHERE t.id = ANY ($1) AND t.revoked_at IS NULL
