-- Where a log ends, and the position of the last message that is there: of one moment. Nothing for a log that has ended or is
-- being replaced, and none as large where an earlier version let a position wrap around.
SELECT head.last_position, coalesce((SELECT m.global_position FROM {log}.messages AS m
                                     ORDER BY m.global_position DESC LIMIT 1), 0) AS found
FROM (SELECT b.last_position FROM {log}.batches AS b ORDER BY b.seq DESC LIMIT 1) AS head
WHERE head.last_position >= 0
