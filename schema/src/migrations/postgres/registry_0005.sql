-- Null as the origin: the incarnation itself. token_hash is read by servers of earlier versions only, and holds the hash
-- of one token with every right, or zeros.
ALTER TABLE eventodb.namespaces
    ADD COLUMN origin         bigint,
    ADD COLUMN protected      boolean NOT NULL DEFAULT false,
    ADD COLUMN quota_messages bigint, -- null: no bound
    ADD COLUMN quota_bytes    bigint
