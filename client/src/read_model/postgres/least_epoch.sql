-- A rebuild waits until all transactions that have read this row have ended, and they wait for it.
SELECT least_epoch FROM eventodb_group WHERE name = $1 FOR SHARE
