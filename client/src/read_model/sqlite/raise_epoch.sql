UPDATE eventodb_group SET least_epoch = max(least_epoch, ?2) WHERE name = ?1
