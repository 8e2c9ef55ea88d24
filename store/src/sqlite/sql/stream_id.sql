SELECT stream_id FROM idx.streams WHERE name = ?1
