-- A batch that nothing can follow: the end of a deleted log, or a seal.
INSERT INTO {log}.batches (seq, batch_id, last_position, message_count, stream_count, time)
SELECT head.seq + 1, $1, NULL, head.message_count, head.stream_count, head.time
FROM {log}.batches AS head ORDER BY head.seq DESC LIMIT 1
