-- As change_group, if the group is still stored at $13, where it was decided about. After a failover it may have the same
-- version, although messages that the decision knows are lost.
SELECT CASE WHEN $13 IS NULL OR $13 = {home}
       THEN {log}.change_group_2($1, $2, $3, $4, $5, $6, $7, $8, $9, $10::pg_catalog.json, $11, $12)
       ELSE false END
