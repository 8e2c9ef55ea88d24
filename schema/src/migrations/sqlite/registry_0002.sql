-- What a log must be and how far it must reach, so that another one in its place, or one that lost its end, is noticed.
ALTER TABLE registry.namespaces ADD COLUMN identity BLOB; -- that of its log; null until a log of an earlier version is opened
ALTER TABLE registry.namespaces ADD COLUMN marked_head INTEGER NOT NULL DEFAULT 0; -- a global position that its log has reached
