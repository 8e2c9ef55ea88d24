-- A parked stream, in the place of what was noted of it.
INSERT OR REPLACE INTO log.group_parked (group_name, stream, handled, attempts, reason, since, due, rev, is_out)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
