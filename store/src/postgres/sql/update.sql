-- Null leaves a description or a protection as it is; the quota is changed if $4. $7 is the origin, if that matters.
UPDATE eventodb.namespaces
SET description = coalesce($2, description), protected = coalesce($3, protected),
    quota_messages = CASE WHEN $4 THEN $5 ELSE quota_messages END,
    quota_bytes = CASE WHEN $4 THEN $6 ELSE quota_bytes END
WHERE name = $1 AND deleted_at IS NULL AND coalesce($7 = coalesce(origin, incarnation), true)
RETURNING incarnation
