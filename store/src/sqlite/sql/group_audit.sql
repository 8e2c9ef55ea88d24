-- A page of a group's audit, newest first.
SELECT id, at, token, act, details FROM log.group_audit
WHERE group_name = ?1 AND id < ?2
ORDER BY id DESC
LIMIT ?3
