-- How far counts are folded; nothing where another server folds just now.
SELECT position FROM {log}.folded FOR UPDATE SKIP LOCKED
