-- Markers that stand in streams of their own.
SELECT g.global_position
FROM given_up AS g
JOIN messages AS m ON m.global_position = g.global_position
WHERE m.stream = '$damaged-' || m.global_position
