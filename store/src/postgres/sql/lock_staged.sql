-- The incarnation that a staged one is to replace. The staged one cannot be given up before the transaction ends.
SELECT replaces FROM eventodb.namespaces WHERE incarnation = $1 AND staged_until IS NOT NULL FOR UPDATE
