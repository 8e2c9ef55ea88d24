-- Tokens belong to a namespace as long as it lives. A replacement gives it another incarnation, but not another origin:
-- that is the incarnation with which it was created.
CREATE TABLE eventodb.tokens (
    id           uuid        PRIMARY KEY,
    origin       bigint      NOT NULL,
    hash         bytea       NOT NULL, -- SHA-256
    description  text        NOT NULL,
    rights       smallint    NOT NULL, -- the sum of: 1 read, 2 write, 4 consume, 8 admin
    categories   text,                 -- one name, or prefix and *, a line; null: all
    created_at   timestamptz NOT NULL,
    expires_at   timestamptz,
    ends_at      timestamptz,          -- the end of its grace, once it was rotated
    revoked_at   timestamptz,
    last_used_at timestamptz,
    rotated_from uuid,                 -- the token in whose place it came
    UNIQUE (origin, hash)
)
