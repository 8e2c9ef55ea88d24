SELECT t.id, t.origin, t.hash, n.name, t.description, t.rights, t.categories, t.created_at, t.expires_at, t.ends_at, t.revoked_at,
    t.last_used_at, t.rotated_from
FROM eventodb.namespaces AS n
JOIN eventodb.tokens AS t ON t.origin = coalesce(n.origin, n.incarnation)
WHERE n.name = $1 AND n.deleted_at IS NULL
ORDER BY t.created_at, t.id
