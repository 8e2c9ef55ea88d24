-- An empty batch $2 behind seal $1, if that is the last one: the log goes on from where it was sealed.
SELECT {log}.unseal_2($1, $2)
