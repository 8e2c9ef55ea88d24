-- The newest batch, and the id of batch $1 if that is still there. Where an earlier version let a position wrap
-- around, the log ends at the highest position there is.
SELECT seq, CASE WHEN last_position < 0 THEN 9223372036854775807 ELSE last_position END, time, batch_id,
       (SELECT known.batch_id FROM {log}.batches AS known WHERE known.seq = $1)
FROM {log}.batches ORDER BY seq DESC LIMIT 1
