-- The hashes of the tokens that were not revoked, of living namespaces, and when each ends by itself.
SELECT t.hash, min(coalesce(t.expires_at, ?1), coalesce(t.ends_at, ?1))
FROM registry.tokens AS t
JOIN registry.namespaces AS n ON coalesce(n.origin, n.incarnation) = t.origin AND n.deleted_at IS NULL
WHERE t.revoked_at IS NULL
