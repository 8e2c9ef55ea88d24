-- Tokens belong to a namespace as long as it lives. A replacement gives it another incarnation, but not another origin:
-- that is the incarnation with which it was created.
CREATE TABLE registry.tokens (
    id           BLOB    NOT NULL PRIMARY KEY, -- a UUID
    origin       INTEGER NOT NULL,
    hash         BLOB    NOT NULL, -- SHA-256
    description  TEXT    NOT NULL,
    rights       INTEGER NOT NULL, -- the sum of: 1 read, 2 write, 4 consume, 8 admin
    categories   TEXT,             -- one name, or prefix and *, a line; null: all
    created_at   INTEGER NOT NULL, -- microseconds since 1970, as all times here
    expires_at   INTEGER,
    ends_at      INTEGER,          -- the end of its grace, once it was rotated
    revoked_at   INTEGER,
    last_used_at INTEGER,
    rotated_from BLOB,             -- the token in whose place it came
    UNIQUE (origin, hash)
) STRICT;

-- The token that each namespace had gets every right. Its id is a random UUID, of version 4.
INSERT INTO registry.tokens (id, origin, hash, description, rights, created_at)
SELECT unhex(hex(randomblob(6)) || '4' || substr(hex(randomblob(2)), 2) || '8' || substr(hex(randomblob(2)), 2) || hex(randomblob(6))),
       incarnation, token_hash, '', 15, created_at
FROM registry.namespaces
WHERE deleted_at IS NULL;

ALTER TABLE registry.namespaces DROP COLUMN token_hash;
ALTER TABLE registry.namespaces ADD COLUMN origin INTEGER; -- null: the incarnation itself
ALTER TABLE registry.namespaces ADD COLUMN protected INTEGER NOT NULL DEFAULT 0;
ALTER TABLE registry.namespaces ADD COLUMN quota_messages INTEGER; -- null: no bound
ALTER TABLE registry.namespaces ADD COLUMN quota_bytes INTEGER;

-- Finds the namespace of a token.
CREATE UNIQUE INDEX registry.namespaces_origin ON namespaces (coalesce(origin, incarnation)) WHERE deleted_at IS NULL;
