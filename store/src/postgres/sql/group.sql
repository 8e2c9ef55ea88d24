-- Group $1 as it is now, without its rows if it still has version $2 with stamp $5; how the memberships $3 ended; the
-- time, unless $4 is given; the head; the last epoch; where all this is stored, which is another place after a restore or a
-- failover, and after a restart. All of one moment.
SELECT coalesce($4, (pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) * 1000)::pg_catalog.int8) AS now,
       (SELECT head.last_position FROM {log}.batches AS head ORDER BY head.seq DESC LIMIT 1) AS head,
       (SELECT epoch.last FROM {log}.group_epoch AS epoch) AS last_epoch,
       CASE WHEN newest.state IS NOT NULL THEN newest.version END AS version,
       CASE WHEN newest.is_news THEN newest.state END AS state,
       CASE WHEN newest.is_news THEN
           (SELECT g.definition FROM {log}.groups AS g WHERE g.name = $1) END AS definition,
       CASE WHEN newest.is_news THEN
           (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(p.stream, p.handled, p.attempts, p.reason, p.since,
                                                                  p.due, p.rev, p.is_out))::pg_catalog.text
            FROM {log}.group_parked AS p WHERE p.group_name = $1) END AS parked,
       CASE WHEN newest.is_news THEN
           (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(c.number, c.carried::pg_catalog.json))::pg_catalog.text
            FROM {log}.group_carried AS c WHERE c.group_name = $1) END AS carried,
       (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(g.key, g.reason, g.until))::pg_catalog.text
        FROM {log}.group_gone AS g WHERE g.group_name = $1 AND g.key = ANY ($3)) AS gone,
       newest.stamp,
       CASE WHEN pg_catalog.current_setting('transaction_read_only') = 'off' THEN {home} END AS home
FROM (SELECT 1) AS one
LEFT JOIN (SELECT s.version, s.stamp, s.state, (s.version, s.stamp) IS DISTINCT FROM ($2, $5) AS is_news
           FROM {log}.group_states AS s WHERE s.group_name = $1
           ORDER BY s.version DESC LIMIT 1) AS newest ON true
