-- Writes the newest row of the registry's own history anew as it is, unless another server does so at this moment.
UPDATE {log}.migrations SET oldest_binary = oldest_binary
WHERE version = (SELECT version FROM {log}.migrations ORDER BY version DESC LIMIT 1 FOR UPDATE SKIP LOCKED)
