DELETE FROM eventodb_group_stream WHERE group_name = ?1
