-- Where an incarnation is staged for the place of $1: whether somebody keeps it.
SELECT staged_until >= pg_catalog.now() FROM eventodb.namespaces WHERE replaces = $1 AND staged_until IS NOT NULL
