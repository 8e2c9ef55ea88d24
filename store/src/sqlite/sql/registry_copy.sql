INSERT INTO registry.namespaces
    (incarnation, name, token_hash, description, metadata, created_at, messages, identity, marked_head)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
