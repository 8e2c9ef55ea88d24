INSERT INTO {log}.messages (global_position, stream, position, starts_stream, category, stream_hash, type, correlation,
                            id, time, metadata, data)
SELECT m.global_position, m.stream, m.position, m.position = 0, m.category, m.stream_hash, 'Deposited', NULL,
       m.id, clock_timestamp(), NULL, m.data
FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::text[], $5::bigint[], $6::uuid[], $7::text[])
    AS m(global_position, stream, position, category, stream_hash, id, data)
