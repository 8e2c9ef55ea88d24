-- What a test says instead of Citus, see `Settings::stand_in`.
SELECT schema_name, nodename, nodeport FROM eventodb.test_placements WHERE schema_name = ANY ($1)
