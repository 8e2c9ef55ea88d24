-- Changes of the groups $1 that only renew leases, in this order; for each whether it was stored. Whoever changes one of
-- them holds the others up for a moment only.
SELECT {log}.change_group_2(known.name, known.version, known.stamp, known.next, known.next_stamp, '', 0, 0, known.state,
                            NULL, 0, $7)
FROM (SELECT pg_catalog.set_config('lock_timeout', '50ms', true) OFFSET 0) AS patience,
     ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4),
                pg_catalog.unnest($5), pg_catalog.unnest($6))
         AS known(name, version, stamp, next, next_stamp, state)
