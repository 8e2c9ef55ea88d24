-- These tokens were used at $2, which is a full hour.
UPDATE eventodb.tokens SET last_used_at = $2 WHERE id = ANY ($1) AND (last_used_at IS NULL OR last_used_at < $2)
