-- Whose each of the hashes $2 is, in the namespace of the name at the same place in $1: nothing else of the namespaces is read, because
-- the cost of a wrong token must not tell anything about them. LIMIT keeps each lookup apart, so that the planner finds each by the indexes
-- and never walks a table to find many at once.
SELECT found.id, found.origin, found.hash, found.name, found.description, found.rights, found.categories, found.created_at, found.expires_at,
    found.ends_at, found.revoked_at, found.last_used_at, found.rotated_from, asked.place
FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) WITH ORDINALITY AS asked(namespace, hash, place)
CROSS JOIN LATERAL (
    SELECT t.*, n.name
    FROM eventodb.namespaces AS n
    JOIN eventodb.tokens AS t ON t.origin = coalesce(n.origin, n.incarnation)
    WHERE n.name = asked.namespace AND n.deleted_at IS NULL AND t.hash = asked.hash
    LIMIT 1
) AS found
