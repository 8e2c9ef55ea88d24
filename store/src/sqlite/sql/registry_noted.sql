SELECT messages, identity, marked_head
FROM registry.namespaces
WHERE incarnation = ?1 AND (deleted_at IS NULL OR ?2)
