-- Puts an empty batch behind a seal, if that is the last batch: the log goes on from where it was sealed. The seal
-- stays, because an append that was sent before it may still come, and must find its number taken.
CREATE FUNCTION {log}.unseal_2(seal_id uuid, unseal_id uuid) RETURNS void LANGUAGE plpgsql AS $unseal$
BEGIN
    -- Whatever the role or a pooler's session says, the commit is at least synchronous.
    IF pg_catalog.current_setting('synchronous_commit') NOT IN ('on', 'remote_apply') THEN
        PERFORM pg_catalog.set_config('synchronous_commit', 'on', true);
    END IF;
    INSERT INTO {log}.batches (seq, batch_id, last_position, message_count, stream_count, time)
    SELECT seal.seq + 1, unseal_id, below.last_position, below.message_count, below.stream_count, below.time
    FROM (SELECT last.seq, last.batch_id FROM {log}.batches AS last ORDER BY last.seq DESC LIMIT 1) AS seal
    CROSS JOIN (SELECT * FROM {log}.batches AS open WHERE open.last_position IS NOT NULL
                ORDER BY open.seq DESC LIMIT 1) AS below
    WHERE seal.batch_id = seal_id
    ON CONFLICT (seq) DO NOTHING;
END
$unseal$
