-- The newest batch, and the id of batch $1 if that is still there.
SELECT seq, last_position, time, batch_id,
       (SELECT known.batch_id FROM {log}.batches AS known WHERE known.seq = $1)
FROM {log}.batches ORDER BY seq DESC LIMIT 1
