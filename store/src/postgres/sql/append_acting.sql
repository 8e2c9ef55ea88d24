-- As the statement for batches that act on no group, with what happens to groups in $21.
SELECT appended.written_at, appended.placed
FROM {log}.append_acting_2($21::pg_catalog.json, $22, $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15,
                           $16, $17, $18, $19, $20) AS appended
