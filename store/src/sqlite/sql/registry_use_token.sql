-- Token ?1 was used at ?2, which is a full hour.
UPDATE registry.tokens SET last_used_at = ?2 WHERE id = ?1 AND (last_used_at IS NULL OR last_used_at < ?2)
