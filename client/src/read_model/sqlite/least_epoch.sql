SELECT least_epoch FROM eventodb_group WHERE name = ?1
