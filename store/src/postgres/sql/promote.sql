-- The staged incarnation takes the place of the living one, with what that one has by now. Its row is locked first:
-- given up meanwhile, it must not end the living one.
WITH staged AS MATERIALIZED (
    SELECT replaces FROM eventodb.namespaces
    WHERE incarnation = $1 AND staged_until IS NOT NULL
        AND {synchronous}
    FOR UPDATE
), ended AS (
    UPDATE eventodb.namespaces AS living SET deleted_at = pg_catalog.now()
    FROM staged
    WHERE living.incarnation = staged.replaces AND living.deleted_at IS NULL
    RETURNING living.*
)
UPDATE eventodb.namespaces AS promoted
SET token_hash = ended.token_hash, description = ended.description, metadata = ended.metadata,
    origin = coalesce(ended.origin, ended.incarnation), protected = ended.protected,
    quota_messages = ended.quota_messages, quota_bytes = ended.quota_bytes,
    deleted_at = NULL, staged_until = NULL, replaces = NULL
FROM ended
WHERE promoted.incarnation = $1
RETURNING promoted.incarnation
