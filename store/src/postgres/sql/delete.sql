UPDATE eventodb.namespaces SET deleted_at = pg_catalog.clock_timestamp()
WHERE incarnation = $1 AND deleted_at IS NULL AND NOT protected
    AND {synchronous}
RETURNING deleted_at
