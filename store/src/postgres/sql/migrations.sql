CREATE TABLE {log}.migrations (
    version       bigint      PRIMARY KEY,
    oldest_binary text        NOT NULL, -- the oldest version of the program that may use the schema from here on
    applied_at    timestamptz NOT NULL
)
