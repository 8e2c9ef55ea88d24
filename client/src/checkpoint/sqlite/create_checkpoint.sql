CREATE TABLE IF NOT EXISTS eventodb_checkpoint (
    consumer TEXT NOT NULL PRIMARY KEY,
    position INTEGER NOT NULL
) STRICT;
