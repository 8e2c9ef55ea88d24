-- Puts a batch behind the last one that no append can follow: the end of a deleted log, or a seal. Does nothing if that
-- batch is the last one already, so that the call may be repeated. An append under way happens before it or not at all.
CREATE FUNCTION {log}.tombstone_2(tombstone_id uuid) RETURNS void LANGUAGE plpgsql AS $tombstone$
DECLARE
    last_id pg_catalog.uuid;
BEGIN
    -- Whatever the role or a pooler's session says, the commit is at least synchronous.
    IF pg_catalog.current_setting('synchronous_commit') NOT IN ('on', 'remote_apply') THEN
        PERFORM pg_catalog.set_config('synchronous_commit', 'on', true);
    END IF;
    LOOP
        -- Waits for the append that is under way, and does nothing if that one is committed: then it is tried again
        -- behind it.
        INSERT INTO {log}.batches (seq, batch_id, last_position, message_count, stream_count, time)
        SELECT head.seq + 1, tombstone_id, NULL, head.message_count, head.stream_count, head.time
        FROM (SELECT * FROM {log}.batches ORDER BY seq DESC LIMIT 1) AS head
        WHERE head.batch_id <> tombstone_id OR head.last_position IS NOT NULL
        ON CONFLICT (seq) DO NOTHING;
        EXIT WHEN FOUND;
        SELECT head.batch_id INTO last_id FROM {log}.batches AS head ORDER BY head.seq DESC LIMIT 1;
        EXIT WHEN NOT FOUND OR last_id = tombstone_id;
    END LOOP;
END
$tombstone$
