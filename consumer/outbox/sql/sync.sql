-- name: mark
-- The moment and the tail that a sync is counted from.
SELECT NOW(6) AS since, COALESCE((SELECT MAX(entry_id) FROM entries), 0) AS tail;

-- name: due_lanes
-- Users with changes up to the tail that may go on now, counted up to a limit. Indexes: urgent (the state alone), lane.
SELECT COUNT(*) AS n FROM (
  SELECT 1 FROM lanes l WHERE l.state = 'READY' AND (%(lane)s IS NULL OR l.lane_id = %(lane)s) AND EXISTS (
    SELECT 1 FROM entries e WHERE e.lane_id = l.lane_id AND e.is_open = 1 AND e.entry_id <= %(tail)s)
  LIMIT %(limit)s) k;

-- name: ended
-- What has come to an end since. Index: by_state.
SELECT state, state_reason AS reason, COUNT(*) AS entries FROM entries
WHERE state IN ('DELIVERED', 'DEAD_LETTER', 'SUPERSEDED') AND ended_at >= %(since)s AND entry_id <= %(tail)s
  AND (%(lane)s IS NULL OR lane_id = %(lane)s)
GROUP BY state, state_reason;

-- name: still_open
-- What has not; retried is what was called in vain and waits for its next attempt.
-- Index: by_state or lane; without the hint MariaDB reads every entry once a fourth of them is open.
SELECT COALESCE(SUM(state = 'PENDING'), 0) AS pending, COALESCE(SUM(state = 'HELD'), 0) AS held,
  COALESCE(SUM(state = 'PENDING' AND calls > 0), 0) AS retried
FROM entries FORCE INDEX (by_state, lane)
WHERE state IN ('PENDING', 'HELD') AND is_open = 1 AND entry_id <= %(tail)s
  AND (%(lane)s IS NULL OR lane_id = %(lane)s);

-- name: waiting_heads
-- The next changes of users who wait for their next attempt.
-- Indexes: urgent (the state alone); lane, one look however long the lane is (MIN would read all of it).
SELECT l.lane_id, l.arrivals, e.entry_id, e.state FROM lanes l JOIN entries e ON e.entry_id = (
  SELECT h.entry_id FROM entries h FORCE INDEX (lane) WHERE h.lane_id = l.lane_id AND h.is_open = 1
  ORDER BY h.entry_id LIMIT 1)
WHERE l.state = 'WAITING' AND e.state = 'PENDING' AND (%(lane)s IS NULL OR l.lane_id = %(lane)s)
LIMIT %(limit)s;

-- name: lane_if_ready
-- One lane, if it may go on.
SELECT lane_id, realm, username_key, arrivals, priority FROM lanes
WHERE lane_id = %(lane)s AND state = 'READY' AND shard IN %(shards)s;
