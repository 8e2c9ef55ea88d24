-- A group, unless there is one of that name.
INSERT INTO log.groups (name, version, definition, state) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (name) DO NOTHING
