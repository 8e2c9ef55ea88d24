CREATE TABLE IF NOT EXISTS eventodb_checkpoint (
    consumer text COLLATE "C" NOT NULL PRIMARY KEY,
    position bigint NOT NULL
)
