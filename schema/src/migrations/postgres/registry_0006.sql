-- Finds the namespace of a token.
CREATE UNIQUE INDEX namespaces_origin ON eventodb.namespaces ((coalesce(origin, incarnation))) WHERE deleted_at IS NULL
