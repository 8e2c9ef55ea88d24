SELECT m.global_position, m.stream, m.position, m.type, m.correlation FROM log.messages AS m WHERE m.global_position = ?1
