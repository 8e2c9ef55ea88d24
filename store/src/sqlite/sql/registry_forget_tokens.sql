-- Forgets the tokens of namespaces that are gone.
DELETE FROM registry.tokens
WHERE origin NOT IN (SELECT coalesce(origin, incarnation) FROM registry.namespaces)
