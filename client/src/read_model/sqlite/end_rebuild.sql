-- No row: another rebuild has begun since.
UPDATE eventodb_group SET least_epoch = ?3, rebuild = NULL WHERE name = ?1 AND rebuild = ?2
