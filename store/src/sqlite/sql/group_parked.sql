-- The parked streams of a group.
SELECT stream, handled, attempts, reason, since, due, rev, is_out FROM log.group_parked
WHERE group_name = ?1
