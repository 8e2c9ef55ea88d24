-- The namespaces of this database. An incarnation's number names its schema, eventodb_<number>, and
-- is never used again.
CREATE TABLE eventodb.namespaces (
    incarnation bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name        text        COLLATE "C" NOT NULL,
    token_hash  bytea       NOT NULL, -- SHA-256
    description text        NOT NULL,
    metadata    text        NOT NULL,
    created_at  timestamptz NOT NULL,
    deleted_at  timestamptz           -- set by the deletion; the row goes once its schema is gone
);

CREATE UNIQUE INDEX namespaces_name ON eventodb.namespaces (name) WHERE deleted_at IS NULL;
