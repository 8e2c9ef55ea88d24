-- Whether the session may write: it may not on a hot standby, nor where default_transaction_read_only says so.
SELECT pg_catalog.current_setting('transaction_read_only') = 'on'
