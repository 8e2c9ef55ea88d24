-- A batch that nothing can follow: the end of a deleted log, or a seal. May be repeated.
SELECT {log}.tombstone_2($1)
