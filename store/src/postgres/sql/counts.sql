SELECT message_count, stream_count,
       (SELECT m.time FROM {log}.messages AS m ORDER BY m.global_position DESC LIMIT 1)
FROM {log}.batches ORDER BY seq DESC LIMIT 1
