-- Gives up the staged incarnations that nobody has kept until $1.
UPDATE eventodb.namespaces SET staged_until = NULL
WHERE staged_until < $1
