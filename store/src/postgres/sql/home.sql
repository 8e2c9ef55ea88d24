(SELECT pg_catalog.concat((pg_catalog.date_part('epoch', pg_catalog.pg_postmaster_start_time()) * 1000000)::pg_catalog.int8,
                          ' ', pg_catalog.pg_relation_filepath(epoch.tableoid))
            FROM {log}.group_epoch AS epoch)
