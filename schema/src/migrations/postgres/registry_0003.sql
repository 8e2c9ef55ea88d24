-- At most one is staged for the place of another.
CREATE UNIQUE INDEX namespaces_replaces ON eventodb.namespaces (replaces) WHERE staged_until IS NOT NULL;
