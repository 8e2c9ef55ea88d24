-- As head, without the batches that nothing can follow.
SELECT seq, last_position, time, batch_id,
       (SELECT known.batch_id FROM {log}.batches AS known WHERE known.seq = $1)
FROM {log}.batches WHERE last_position IS NOT NULL ORDER BY seq DESC LIMIT 1
