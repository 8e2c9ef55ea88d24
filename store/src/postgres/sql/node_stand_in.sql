-- What a test says instead of Citus, see `Settings::stand_in`.
SELECT identity FROM eventodb.test_placements WHERE nodename = $1 AND nodeport = $2 LIMIT 1
