-- Changes groups and writes a batch, as `append_2` does, or does neither. If a group has moved on, or another batch was
-- first, it fails with 40001.
CREATE FUNCTION {log}.append_acting_1(
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
            next pg_catalog.int8, epoch pg_catalog.int8, state pg_catalog.text, changed pg_catalog.json,
            at_ms pg_catalog.int8)
    LOOP
        IF NOT {log}.change_group_1(act.of_group, act.known, act.next, '', act.epoch, act.epoch, act.state, act.changed,
                                    act.at_ms, audit_kept) THEN
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
