-- Which server the primary of this name and port is: its numbers in its cluster, and the cluster's coordinator.
SELECT pg_catalog.concat_ws(' ', node.nodeid, node.groupid, coordinator.nodename, coordinator.nodeport)
FROM pg_catalog.pg_dist_node AS node
LEFT JOIN pg_catalog.pg_dist_node AS coordinator ON coordinator.groupid = 0 AND coordinator.noderole = 'primary'
WHERE node.nodename = $1 AND node.nodeport = $2 AND node.noderole = 'primary'
