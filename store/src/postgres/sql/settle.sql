-- Whose batch a number is ($2 the batch's id), or, where its row is pruned, whether the batch's first message is there.
-- With the positions that its messages have, which are those at global positions $3 to $5.
SELECT coalesce((SELECT batch.batch_id = $2 FROM {log}.batches AS batch WHERE batch.seq = $1),
                EXISTS (SELECT FROM {log}.messages AS m WHERE m.global_position = $3 AND m.id = $4)) AS committed,
       coalesce((SELECT batch.time FROM {log}.batches AS batch WHERE batch.seq = $1),
                (SELECT m.time FROM {log}.messages AS m WHERE m.global_position = $3)) AS time,
       ARRAY(SELECT m.position FROM {log}.messages AS m WHERE m.global_position BETWEEN $3 AND $5
             ORDER BY m.global_position) AS positions
