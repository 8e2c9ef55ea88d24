-- Puts an empty batch under the number of one whose outcome is unknown, and returns whether it is there now. Waits for
-- a transaction that still holds the number.
CREATE FUNCTION {log}.fence_2(
    head_seq      bigint, -- the head that the lost batch follows: its number, its last position, its id
    head_position bigint,
    head_id       uuid,
    fence_id      uuid
) RETURNS boolean LANGUAGE plpgsql AS $fence$
BEGIN
    -- Whatever the role or a pooler's session says, the commit is at least synchronous.
    IF pg_catalog.current_setting('synchronous_commit') NOT IN ('on', 'remote_apply') THEN
        PERFORM pg_catalog.set_config('synchronous_commit', 'on', true);
    END IF;
    INSERT INTO {log}.batches (seq, batch_id, last_position, message_count, stream_count, time)
    SELECT head.seq + 1, fence_id, head.last_position, head.message_count, head.stream_count, head.time
    FROM {log}.batches AS head
    WHERE head.seq = head_seq AND head.last_position = head_position AND head.batch_id = head_id
    ON CONFLICT (seq) DO NOTHING;
    RETURN FOUND;
END
$fence$
