-- These tokens were used at $2, which is a full hour. A token that another session changes at this moment is left out:
-- to wait for it could end in a deadlock.
UPDATE eventodb.tokens SET last_used_at = $2
WHERE id IN (SELECT id FROM eventodb.tokens
             WHERE id = ANY ($1) AND (last_used_at IS NULL OR last_used_at < $2)
             FOR NO KEY UPDATE SKIP LOCKED)
