-- Damaged messages that are in no run: while there are any, nobody knows where their streams end.
CREATE TABLE idx.unplaced (
    global_position INTEGER PRIMARY KEY
) STRICT;
