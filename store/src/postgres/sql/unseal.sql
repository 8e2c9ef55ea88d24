-- An empty batch behind seal $1, if that is the last one: the log goes on from where it was sealed. The seal stays,
-- as an append that was sent before it may still come, and must find its number taken.
INSERT INTO {log}.batches (seq, batch_id, last_position, message_count, stream_count, time)
SELECT seal.seq + 1, $2, below.last_position, below.message_count, below.stream_count, below.time
FROM (SELECT seq, batch_id FROM {log}.batches ORDER BY seq DESC LIMIT 1) AS seal
CROSS JOIN (SELECT last_position, message_count, stream_count, time FROM {log}.batches
            WHERE last_position IS NOT NULL ORDER BY seq DESC LIMIT 1) AS below
WHERE seal.batch_id = $1
    AND {synchronous}
ON CONFLICT (seq) DO NOTHING
