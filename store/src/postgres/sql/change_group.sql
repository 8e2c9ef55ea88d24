-- A change of a group, or nothing if another one was first.
SELECT {log}.change_group_2($1, $2, $3, $4, $5, $6, $7, $8, $9, $10::pg_catalog.json, $11, $12)
