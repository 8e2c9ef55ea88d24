-- A row with both set is staged: an incarnation that is being filled, to take the place of incarnation `replaces`.
-- It counts as deleted until then. Whoever fills it renews staged_until; past it, anybody may give it up.
ALTER TABLE eventodb.namespaces ADD COLUMN staged_until timestamptz, ADD COLUMN replaces bigint;
