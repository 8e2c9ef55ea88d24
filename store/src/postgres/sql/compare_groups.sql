-- Those of the groups $1 that are not there any more, or not in the versions $2 with the stamps $3; before them the time,
-- unless $4 is given, the head and the last epoch; behind them where they are stored, as in group. All of one moment.
SELECT coalesce($4, (pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) * 1000)::pg_catalog.int8) AS now,
       (SELECT head.last_position FROM {log}.batches AS head ORDER BY head.seq DESC LIMIT 1) AS head,
       (SELECT epoch.last FROM {log}.group_epoch AS epoch) AS last_epoch,
       ARRAY(
           SELECT known.name
           FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3))
               AS known(name, version, stamp)
           LEFT JOIN LATERAL (SELECT s.version, s.stamp FROM {log}.group_states AS s WHERE s.group_name = known.name
                              ORDER BY s.version DESC LIMIT 1) AS newest ON true
           WHERE (newest.version, newest.stamp) IS DISTINCT FROM (known.version, known.stamp)) AS changed,
       CASE WHEN pg_catalog.current_setting('transaction_read_only') = 'off' THEN {home} END AS home
