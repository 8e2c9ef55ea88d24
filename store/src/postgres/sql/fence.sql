-- An empty batch under the number of one whose outcome is unknown. Waits for a transaction that still
-- holds the number.
INSERT INTO {log}.batches (seq, batch_id, last_position, message_count, stream_count, time)
SELECT head.seq + 1, $3, head.last_position, head.message_count, head.stream_count, head.time
FROM {log}.batches AS head
WHERE head.seq = $1 AND head.last_position = $2 AND head.batch_id = $4
    AND {synchronous}
ON CONFLICT (seq) DO NOTHING
RETURNING seq
