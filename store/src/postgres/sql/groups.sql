-- The names of all groups, in byte order.
SELECT name FROM {log}.groups ORDER BY name
