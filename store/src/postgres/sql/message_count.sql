SELECT {number}::bigint, message_count FROM {log}.batches ORDER BY seq DESC LIMIT 1
