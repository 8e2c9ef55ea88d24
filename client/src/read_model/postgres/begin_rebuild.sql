-- No epoch is as high: every message is refused.
UPDATE eventodb_group SET least_epoch = 9223372036854775807, rebuild = $2 WHERE name = $1
