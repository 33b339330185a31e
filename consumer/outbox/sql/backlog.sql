-- name: ensure
-- The one row.
INSERT INTO backlog (id) VALUES (1) ON DUPLICATE KEY UPDATE id = VALUES(id);

-- name: read
-- What was counted last, and whether it is time to count again.
SELECT due, blocked, is_full, counted_at, count_again <= NOW(6) AS stale FROM backlog WHERE id = 1;

-- name: claim
-- Count now, for all: the others wait as long as that may take at most.
UPDATE backlog SET count_again = NOW(6) + INTERVAL %(seconds)s SECOND WHERE id = 1 AND count_again <= NOW(6);

-- name: unfinished
-- All entries that are not terminal. Index: by_state.
-- 0.13 s for a million; in one range of both states it took three times as long (measured).
SELECT (SELECT COUNT(*) FROM entries WHERE state = 'PENDING') + (SELECT COUNT(*) FROM entries WHERE state = 'HELD')
  AS entries;

-- name: blocked
-- Those that somebody must free: of lanes that are held, and of realms at fault or in maintenance.
-- Indexes: ready, user, lane.
-- Forced, and by is_open instead of state, so that only that index is read: by_state would walk all entries for each
-- lane, and looking each entry up takes ten times as long and more (measured).
SELECT
  (SELECT COUNT(*) FROM lanes l STRAIGHT_JOIN entries e FORCE INDEX (lane) ON e.lane_id = l.lane_id AND e.is_open = 1
   WHERE l.state = 'HELD')
  + (SELECT COUNT(*) FROM (SELECT realm FROM realms WHERE fault IS NOT NULL UNION SELECT realm FROM maintenance) r
       STRAIGHT_JOIN lanes l ON l.realm = r.realm
       STRAIGHT_JOIN entries e FORCE INDEX (lane) ON e.lane_id = l.lane_id AND e.is_open = 1
     WHERE l.state <> 'HELD') AS entries;

-- name: note
-- What was counted.
UPDATE backlog SET due = %(due)s, blocked = %(blocked)s, is_full = %(full)s, counted_at = NOW(6),
  count_again = NOW(6) + INTERVAL %(rest_us)s MICROSECOND
WHERE id = 1;
