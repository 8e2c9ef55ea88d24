UPDATE eventodb_group SET least_epoch = greatest(least_epoch, $2) WHERE name = $1
