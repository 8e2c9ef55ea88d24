SELECT seq, last_position, time FROM {log}.batches ORDER BY seq DESC LIMIT 1
