-- Whether an incarnation lives; it cannot be deleted before the transaction ends.
SELECT incarnation FROM eventodb.namespaces WHERE incarnation = $1 AND deleted_at IS NULL FOR SHARE
