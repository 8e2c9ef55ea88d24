-- No row where the index contradicts itself.
SELECT completion
FROM idx.progress JOIN idx.ids ON id = completion_id AND global_position = completion
WHERE log_identity = ?1
