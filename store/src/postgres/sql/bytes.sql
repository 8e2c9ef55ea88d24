SELECT pg_catalog.pg_total_relation_size('{log}.messages'::pg_catalog.regclass)
