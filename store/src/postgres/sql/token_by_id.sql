SELECT t.id, t.origin, t.hash, n.name, t.description, t.rights, t.categories, t.created_at, t.expires_at, t.ends_at, t.revoked_at,
    t.last_used_at, t.rotated_from
FROM eventodb.tokens AS t
JOIN eventodb.namespaces AS n ON coalesce(n.origin, n.incarnation) = t.origin AND n.deleted_at IS NULL
WHERE t.id = $1
