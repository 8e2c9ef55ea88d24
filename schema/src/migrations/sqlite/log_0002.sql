-- Every message has a checksum: see `store/src/sqlite/checksum.rs`.
ALTER TABLE log.messages ADD COLUMN checksum INTEGER; -- CRC-32C as a signed 32-bit integer

-- At most one row: the messages above `done`, up to `last_position`, come from a version without checksums and may have
-- none yet. A message without a checksum anywhere else is damaged.
CREATE TABLE log.unchecked (
    done          INTEGER NOT NULL,
    last_position INTEGER NOT NULL
) STRICT;

INSERT INTO log.unchecked SELECT 0, max(global_position) FROM log.messages HAVING max(global_position) IS NOT NULL;

-- Damaged messages in whose place a person had a marker put.
CREATE TABLE log.given_up (
    global_position INTEGER PRIMARY KEY,
    given_up_at     INTEGER NOT NULL -- microseconds since 1970
) STRICT;
