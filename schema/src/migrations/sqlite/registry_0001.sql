-- The namespaces of this data directory. An incarnation's number names its files and is never used again.
CREATE TABLE registry.namespaces (
    incarnation INTEGER PRIMARY KEY AUTOINCREMENT,
    name        TEXT    NOT NULL,
    token_hash  BLOB    NOT NULL,
    description TEXT    NOT NULL,
    metadata    TEXT    NOT NULL,
    created_at  INTEGER NOT NULL, -- microseconds since 1970
    deleted_at  INTEGER,          -- set by the deletion; the row goes once the files are gone
    messages    INTEGER           -- how many messages it holds; null while its log is being written
) STRICT;

CREATE UNIQUE INDEX registry.namespaces_name ON namespaces (name) WHERE deleted_at IS NULL;
