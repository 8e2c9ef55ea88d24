SELECT pg_catalog.citus_total_relation_size('{log}.messages'::pg_catalog.regclass)
