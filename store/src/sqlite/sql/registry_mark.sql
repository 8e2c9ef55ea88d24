UPDATE registry.namespaces SET marked_head = ?2 WHERE incarnation = ?1 AND marked_head < ?2
