-- A random number of each state. After a failover that lost rows the same version may be made once more, and a server that
-- remembers the lost one must not take it for that.
ALTER TABLE {log}.group_states ADD COLUMN stamp pg_catalog.int8 NOT NULL DEFAULT 0;

-- Stores a change of a group, as `change_group_1` does, with these differences: the known state is compared by version and
-- stamp. A state is stored only if the one that it follows is still there, however long the call stood still. Epochs of
-- several groups do not exclude each other: a group is only to begin above all epochs of its namespace. A group that is
-- deleted leaves nothing behind. After its first write the function does not return false, but fails with 40001.
CREATE FUNCTION {log}.change_group_2(
    of_group pg_catalog.text,
    known_version pg_catalog.int8,
    known_stamp pg_catalog.int8,
    next_version pg_catalog.int8,
    next_stamp pg_catalog.int8,
    group_definition pg_catalog.text,
    epoch_before pg_catalog.int8,
    epoch_after pg_catalog.int8,
    next_state pg_catalog.text,
    changed pg_catalog.json, -- rows of the other tables, if any changed
    at_ms pg_catalog.int8,
    audit_kept pg_catalog.int8
) RETURNS pg_catalog.bool LANGUAGE plpgsql AS $change$
DECLARE
    newest record;
BEGIN
    PERFORM {log}.be_synchronous_1();
    -- A log that has ended, or is about to be replaced, changes no more.
    IF (SELECT head.last_position FROM {log}.batches AS head ORDER BY head.seq DESC LIMIT 1) IS NULL THEN
        RETURN false;
    END IF;
    IF known_version IS NULL THEN
        RETURN {log}.create_group_2(of_group, next_version, next_stamp, group_definition, epoch_before, epoch_after,
                                    next_state, changed, at_ms, audit_kept);
    END IF;
    SELECT s.version, s.stamp INTO newest FROM {log}.group_states AS s
    WHERE s.group_name = of_group ORDER BY s.version DESC LIMIT 1;
    IF newest IS NULL OR newest.version <> known_version OR newest.stamp <> known_stamp THEN
        RETURN false;
    END IF;
    INSERT INTO {log}.group_states (group_name, version, stamp, state)
    VALUES (of_group, next_version, next_stamp, next_state)
    ON CONFLICT (group_name, version) DO NOTHING;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    -- If this call stood still, its version may have come, and been deleted as an old one, or with the group. The lock
    -- finds that out where transactions see only what was there when they began, too.
    PERFORM FROM {log}.group_states AS s
    WHERE s.group_name = of_group AND s.version = known_version AND s.stamp = known_stamp FOR KEY SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the group has moved on' USING ERRCODE = 'serialization_failure';
    END IF;
    IF next_state IS NULL THEN
        DELETE FROM {log}.groups WHERE name = of_group;
        DELETE FROM {log}.group_states WHERE group_name = of_group;
        DELETE FROM {log}.group_parked WHERE group_name = of_group;
        DELETE FROM {log}.group_gone WHERE group_name = of_group;
        DELETE FROM {log}.group_carried WHERE group_name = of_group;
        DELETE FROM {log}.group_audit WHERE group_name = of_group;
        RETURN true;
    END IF;
    IF epoch_before <> epoch_after THEN
        UPDATE {log}.group_epoch SET last = epoch_after WHERE last < epoch_after;
    END IF;
    -- Each range is deleted once, so that rows which a snapshot keeps are not looked at again.
    IF next_version % 64 = 0 THEN
        DELETE FROM {log}.group_states AS s
        WHERE s.group_name = of_group AND s.version >= next_version - 128 AND s.version < next_version - 64;
    END IF;
    IF changed IS NOT NULL THEN
        PERFORM {log}.change_group_rows_1(of_group, changed, at_ms, audit_kept);
    END IF;
    RETURN true;
END
$change$;

-- Stores a group that is not there.
CREATE FUNCTION {log}.create_group_2(
    of_group pg_catalog.text,
    next_version pg_catalog.int8,
    next_stamp pg_catalog.int8,
    group_definition pg_catalog.text,
    epoch_before pg_catalog.int8,
    epoch_after pg_catalog.int8,
    next_state pg_catalog.text,
    changed pg_catalog.json,
    at_ms pg_catalog.int8,
    audit_kept pg_catalog.int8
) RETURNS pg_catalog.bool LANGUAGE plpgsql AS $change$
BEGIN
    INSERT INTO {log}.groups (name, definition) VALUES (of_group, group_definition) ON CONFLICT (name) DO NOTHING;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    -- A group of this name may have come and gone since this one was decided: no epoch was given meanwhile.
    UPDATE {log}.group_epoch SET last = epoch_after WHERE last = epoch_before;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'other epochs were given' USING ERRCODE = 'serialization_failure';
    END IF;
    -- What `change_group_1` leaves of a group that it deletes.
    DELETE FROM {log}.group_states WHERE group_name = of_group;
    INSERT INTO {log}.group_states (group_name, version, stamp, state)
    VALUES (of_group, next_version, next_stamp, next_state);
    IF changed IS NOT NULL THEN
        PERFORM {log}.change_group_rows_1(of_group, changed, at_ms, audit_kept);
    END IF;
    RETURN true;
END
$change$;

-- Changes groups and writes a batch, as `append_acting_1` does, by `change_group_2`.
CREATE FUNCTION {log}.append_acting_2(
    acting           pg_catalog.json,
    audit_kept       pg_catalog.int8,
    head_seq         bigint,
    head_position    bigint,
    head_id          uuid,
    new_id           uuid,
    new_position     bigint,
    new_streams      bigint,
    turn_of          bigint,
    has_open         boolean,
    global_positions bigint[],
    streams          text[],
    positions        bigint[],
    starts           boolean[],
    categories       text[],
    stream_hashes    bigint[],
    types            text[],
    correlations     text[],
    ids              uuid[],
    metadatas        text[],
    datas            text[],
    times            timestamptz[],
    OUT written_at   timestamptz,
    OUT placed       bigint[]
) LANGUAGE plpgsql AS $append$
DECLARE
    act record;
BEGIN
    FOR act IN
        SELECT * FROM pg_catalog.json_to_recordset(acting) AS a(of_group pg_catalog.text, known pg_catalog.int8,
            known_stamp pg_catalog.int8, next pg_catalog.int8, next_stamp pg_catalog.int8, epoch pg_catalog.int8,
            state pg_catalog.text, changed pg_catalog.json, at_ms pg_catalog.int8)
    LOOP
        IF NOT {log}.change_group_2(act.of_group, act.known, act.known_stamp, act.next, act.next_stamp, '', act.epoch,
                                    act.epoch, act.state, act.changed, act.at_ms, audit_kept) THEN
            RAISE EXCEPTION 'a group has moved on' USING ERRCODE = 'serialization_failure';
        END IF;
    END LOOP;
    SELECT done.written_at, done.placed INTO written_at, placed
    FROM {log}.append_2(head_seq, head_position, head_id, new_id, new_position, new_streams, turn_of, has_open,
                        global_positions, streams, positions, starts, categories, stream_hashes, types, correlations,
                        ids, metadatas, datas, times) AS done;
    IF written_at IS NULL THEN
        RAISE EXCEPTION 'another batch was first' USING ERRCODE = 'serialization_failure';
    END IF;
END
$append$
