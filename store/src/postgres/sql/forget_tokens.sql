-- Forgets the tokens of namespaces that are gone.
DELETE FROM eventodb.tokens AS t
WHERE NOT EXISTS (SELECT FROM eventodb.namespaces AS n WHERE coalesce(n.origin, n.incarnation) = t.origin)
