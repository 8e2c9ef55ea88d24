-- The tokens that servers of earlier versions note in the rows of their namespaces alone.
SELECT coalesce(n.origin, n.incarnation), n.token_hash, n.created_at
FROM eventodb.namespaces AS n
WHERE n.deleted_at IS NULL
    AND n.token_hash <> pg_catalog.decode(pg_catalog.repeat('00', 32), 'hex')
    AND NOT EXISTS (SELECT FROM eventodb.tokens AS t
                    WHERE t.origin = coalesce(n.origin, n.incarnation) AND t.hash = n.token_hash)
