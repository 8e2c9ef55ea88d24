-- The same, of the server of this session.
SELECT pg_catalog.concat_ws(' ', node.nodeid, node.groupid, coordinator.nodename, coordinator.nodeport)
FROM pg_catalog.pg_dist_local_group AS own
JOIN pg_catalog.pg_dist_node AS node ON node.groupid = own.groupid AND node.noderole = 'primary'
LEFT JOIN pg_catalog.pg_dist_node AS coordinator ON coordinator.groupid = 0 AND coordinator.noderole = 'primary'
