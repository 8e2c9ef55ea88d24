-- Stores a change of a group: all of it, if the group has the version that the change was decided on, or nothing. Without
-- a known version the group is created; without a state it is deleted.
CREATE FUNCTION {log}.change_group_1(
    of_group pg_catalog.text,
    known_version pg_catalog.int8,
    next_version pg_catalog.int8,
    group_definition pg_catalog.text,
    epoch_before pg_catalog.int8,
    epoch_after pg_catalog.int8,
    next_state pg_catalog.text,
    changed pg_catalog.json, -- rows of the other tables, if any changed
    at_ms pg_catalog.int8,
    audit_kept pg_catalog.int8
) RETURNS pg_catalog.bool LANGUAGE plpgsql AS $change$
DECLARE
    newest pg_catalog.int8;
BEGIN
    PERFORM {log}.be_synchronous_1();
    -- A log that has ended, or is about to be replaced, changes no more.
    IF (SELECT head.last_position FROM {log}.batches AS head ORDER BY head.seq DESC LIMIT 1) IS NULL THEN
        RETURN false;
    END IF;
    IF known_version IS NOT NULL THEN
        SELECT s.version INTO newest FROM {log}.group_states AS s
        WHERE s.group_name = of_group ORDER BY s.version DESC LIMIT 1;
        IF newest IS DISTINCT FROM known_version THEN
            RETURN false;
        END IF;
    END IF;
    -- An epoch that is taken here and not used is lost, which harms nobody.
    IF epoch_before <> epoch_after THEN
        UPDATE {log}.group_epoch SET last = epoch_after WHERE last = epoch_before;
        IF NOT FOUND THEN
            RETURN false;
        END IF;
    END IF;
    IF known_version IS NULL THEN
        INSERT INTO {log}.groups (name, definition) VALUES (of_group, group_definition) ON CONFLICT (name) DO NOTHING;
        IF NOT FOUND THEN
            RETURN false;
        END IF;
    END IF;
    INSERT INTO {log}.group_states (group_name, version, state) VALUES (of_group, next_version, next_state)
    ON CONFLICT (group_name, version) DO NOTHING;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    -- Each range is deleted once, so that rows which a snapshot keeps are not looked at again.
    IF next_version % 64 = 0 THEN
        DELETE FROM {log}.group_states AS s
        WHERE s.group_name = of_group AND s.version >= next_version - 128 AND s.version < next_version - 64;
    END IF;
    IF next_state IS NULL THEN
        DELETE FROM {log}.groups WHERE name = of_group;
        DELETE FROM {log}.group_parked WHERE group_name = of_group;
        DELETE FROM {log}.group_gone WHERE group_name = of_group;
        DELETE FROM {log}.group_carried WHERE group_name = of_group;
        DELETE FROM {log}.group_audit WHERE group_name = of_group;
    ELSIF changed IS NOT NULL THEN
        PERFORM {log}.change_group_rows_1(of_group, changed, at_ms, audit_kept);
    END IF;
    RETURN true;
END
$change$;

-- Stores the rows of a group that are not in its state.
CREATE FUNCTION {log}.change_group_rows_1(
    of_group pg_catalog.text,
    changed pg_catalog.json,
    at_ms pg_catalog.int8,
    audit_kept pg_catalog.int8
) RETURNS void LANGUAGE plpgsql AS $change$
BEGIN
    DELETE FROM {log}.group_parked WHERE group_name = of_group
        AND stream IN (SELECT pg_catalog.json_array_elements_text(changed -> 'unparked'));
    INSERT INTO {log}.group_parked (group_name, stream, handled, attempts, reason, since, due, rev, is_out)
    SELECT of_group, p.stream, p.handled, p.attempts, p.reason, p.since, p.due, p.rev, p.is_out
    FROM pg_catalog.json_to_recordset(changed -> 'parked') AS p(stream pg_catalog.text, handled pg_catalog.int8,
        attempts pg_catalog.int8, reason pg_catalog.text, since pg_catalog.int8, due pg_catalog.int8,
        rev pg_catalog.int8, is_out pg_catalog.bool)
    ON CONFLICT (group_name, stream) DO UPDATE SET handled = EXCLUDED.handled, attempts = EXCLUDED.attempts,
        reason = EXCLUDED.reason, since = EXCLUDED.since, due = EXCLUDED.due, rev = EXCLUDED.rev,
        is_out = EXCLUDED.is_out;
    INSERT INTO {log}.group_gone (group_name, key, reason, until)
    SELECT of_group, g.key, g.reason, g.until
    FROM pg_catalog.json_to_recordset(changed -> 'gone') AS g(key pg_catalog.text, reason pg_catalog.text,
        until pg_catalog.int8)
    ON CONFLICT (group_name, key) DO UPDATE SET reason = EXCLUDED.reason, until = EXCLUDED.until;
    IF pg_catalog.json_array_length(changed -> 'gone') > 0 THEN
        DELETE FROM {log}.group_gone WHERE group_name = of_group AND until <= at_ms;
    END IF;
    DELETE FROM {log}.group_carried WHERE group_name = of_group
        AND number IN (SELECT e.value::pg_catalog.int8
                       FROM pg_catalog.json_array_elements_text(changed -> 'uncarried') AS e(value));
    INSERT INTO {log}.group_carried (group_name, number, carried)
    SELECT of_group, c.number, c.carried
    FROM pg_catalog.json_to_recordset(changed -> 'carried') AS c(number pg_catalog.int8, carried pg_catalog.text)
    ON CONFLICT (group_name, number) DO UPDATE SET carried = EXCLUDED.carried;
    INSERT INTO {log}.group_audit (group_name, id, at, token, act, details)
    SELECT of_group, a.id, a.at, a.token, a.act, a.details
    FROM pg_catalog.json_to_recordset(changed -> 'audit') AS a(id pg_catalog.int8, at pg_catalog.int8,
        token pg_catalog.text, act pg_catalog.text, details pg_catalog.text);
    IF pg_catalog.json_array_length(changed -> 'audit') > 0 THEN
        DELETE FROM {log}.group_audit WHERE group_name = of_group
            AND id <= (SELECT pg_catalog.max(a.id) FROM {log}.group_audit AS a WHERE a.group_name = of_group) - audit_kept;
    END IF;
END
$change$
