INSERT INTO registry.namespaces
    (incarnation, name, description, metadata, created_at, messages, identity, marked_head, origin, protected,
     quota_messages, quota_bytes)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
