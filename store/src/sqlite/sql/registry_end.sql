-- Ends an incarnation whose place another takes.
UPDATE registry.namespaces SET deleted_at = ?2 WHERE incarnation = ?1 AND deleted_at IS NULL
