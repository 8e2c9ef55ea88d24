-- A batch after the head that it names, and its messages, or nothing at all: then both columns are null.
SELECT appended.written_at, appended.placed
FROM {log}.append_2($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20) AS appended
