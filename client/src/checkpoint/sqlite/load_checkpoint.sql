SELECT position FROM eventodb_checkpoint WHERE consumer = ?1
