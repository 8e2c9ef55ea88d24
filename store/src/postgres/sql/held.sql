-- Where an incarnation is staged for the place of $1: until when it is kept.
SELECT staged_until FROM eventodb.namespaces WHERE replaces = $1 AND staged_until IS NOT NULL
