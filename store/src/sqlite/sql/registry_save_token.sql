INSERT INTO registry.tokens
    (id, origin, hash, description, rights, categories, created_at, expires_at, ends_at, revoked_at, last_used_at, rotated_from)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
ON CONFLICT (id) DO UPDATE SET ends_at = excluded.ends_at, revoked_at = excluded.revoked_at
