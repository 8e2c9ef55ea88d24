-- A rebuild waits until all transactions that have read this row have ended, and they wait for it. A session that stands
-- still must not keep the row, and that of its stream.
SELECT least_epoch, set_config('idle_in_transaction_session_timeout', $2, true)
FROM eventodb_group WHERE name = $1 FOR SHARE
