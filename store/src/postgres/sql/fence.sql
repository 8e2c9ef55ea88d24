-- An empty batch under the number of one whose outcome is unknown; whether it is there now.
SELECT {log}.fence_2($1, $2, $3, $4)
