-- A staged incarnation is kept until $2, if what it is to replace still lives.
UPDATE eventodb.namespaces AS staged SET staged_until = $2
WHERE incarnation = $1 AND staged_until IS NOT NULL
    AND EXISTS (SELECT FROM eventodb.namespaces AS living
                WHERE living.incarnation = staged.replaces AND living.deleted_at IS NULL)
RETURNING incarnation
