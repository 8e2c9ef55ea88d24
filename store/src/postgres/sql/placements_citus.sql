-- The primaries of the nodes that have these schemas, but for the node of this session. Citus' tables are read, not its
-- view citus_shards: that asks each node for sizes, and fails while one does not answer.
SELECT s.nspname::text, node.nodename::text, node.nodeport::int4
FROM pg_catalog.pg_namespace AS s
JOIN pg_catalog.pg_class AS t ON t.relnamespace = s.oid AND t.relname = 'batches'
JOIN pg_catalog.pg_dist_shard AS shard ON shard.logicalrelid = t.oid
JOIN pg_catalog.pg_dist_placement AS placement ON placement.shardid = shard.shardid
JOIN pg_catalog.pg_dist_node AS node ON node.groupid = placement.groupid AND node.noderole = 'primary'
WHERE s.nspname = ANY ($1::name[])
    AND node.groupid <> (SELECT own.groupid FROM pg_catalog.pg_dist_local_group AS own)
