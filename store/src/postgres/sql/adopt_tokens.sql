-- A server of an earlier version notes a token in the row of its namespace alone.
INSERT INTO eventodb.tokens (id, origin, hash, description, rights, created_at)
SELECT pg_catalog.gen_random_uuid(), coalesce(n.origin, n.incarnation), n.token_hash, '', 15, n.created_at
FROM eventodb.namespaces AS n
WHERE n.deleted_at IS NULL
    AND n.token_hash <> pg_catalog.decode(pg_catalog.repeat('00', 32), 'hex')
    AND NOT EXISTS (SELECT FROM eventodb.tokens AS t
                    WHERE t.origin = coalesce(n.origin, n.incarnation) AND t.hash = n.token_hash)
ON CONFLICT (origin, hash) DO NOTHING
