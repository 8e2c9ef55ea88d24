-- Whether message m passes a filter: member $2 of $1, types $3, correlation category $4; null means any.
($1 IS NULL OR -((CASE WHEN m.stream_hash > 0 THEN -m.stream_hash ELSE m.stream_hash END) % $1) = $2)
AND ($3 IS NULL OR m.type = ANY ($3))
AND ($4 IS NULL OR m.correlation = $4)
