-- Every column but the namespace's name.
SELECT id, origin, hash, description, rights, categories, created_at, expires_at, ends_at, revoked_at, last_used_at, rotated_from
FROM tokens
WHERE origin = ?1
ORDER BY created_at, id
