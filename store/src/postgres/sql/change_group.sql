-- A change of a group, or nothing if another one was first.
SELECT {log}.change_group_1($1, $2, $3, $4, $5, $6, $7, $8::pg_catalog.json, $9, $10)
