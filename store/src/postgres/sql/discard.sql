-- Gives a staged incarnation up.
UPDATE eventodb.namespaces SET staged_until = NULL
WHERE incarnation = $1 AND staged_until IS NOT NULL
RETURNING replaces
