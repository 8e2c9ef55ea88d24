-- Gives up the staged incarnations that nobody keeps.
UPDATE eventodb.namespaces SET staged_until = NULL
WHERE staged_until < pg_catalog.now()
    AND {synchronous}
RETURNING incarnation
