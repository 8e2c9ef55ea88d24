-- The hashes of the tokens of an incarnation.
SELECT hash FROM registry.tokens
WHERE origin = (SELECT coalesce(origin, incarnation) FROM registry.namespaces WHERE incarnation = ?1)
