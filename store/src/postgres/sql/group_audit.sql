-- A page of the audit of group $1, newest first: at most $3 entries below $2.
SELECT id, at, token, act, details FROM {log}.group_audit
WHERE group_name = $1 AND id < $2
ORDER BY id DESC
LIMIT $3
