-- name: held_entries
-- Entries that are held, oldest first, with what stands behind each.
-- Index: by_state, in the order of its ids (a held entry has not ended), or lane; for what stands behind: lane. Without
-- the hint MariaDB 11.4 walks all entries.
SELECT e.entry_id, e.lane_id, l.realm, e.username, e.kind, e.event_id, e.state, e.state_reason AS reason,
  IF(e.state_reason IN ('email_in_use', 'username_in_use', 'conflict'), e.email_holder, NULL) AS holder, e.ingested_at AS since, TIMESTAMPDIFF(MICROSECOND, e.ingested_at, NOW(6)) / 1e6 AS seconds, l.arrivals,
  (SELECT COUNT(*) FROM entries b WHERE b.lane_id = e.lane_id AND b.is_open = 1 AND b.entry_id > e.entry_id) AS behind
FROM entries e FORCE INDEX (by_state, lane) JOIN lanes l ON l.lane_id = e.lane_id
WHERE e.state = 'HELD' AND e.ended_at IS NULL AND e.is_open = 1
  AND (%(lane)s IS NULL OR e.lane_id = %(lane)s) AND (%(realm)s IS NULL OR l.realm = %(realm)s)
  AND (%(event_id)s IS NULL OR e.event_id = %(event_id)s) AND (%(reason)s IS NULL OR e.state_reason = %(reason)s)
ORDER BY e.entry_id LIMIT %(limit)s;

-- name: held_lanes
-- Lanes that wait behind a dead letter, oldest first. Index: held; for what stands behind: lane.
SELECT f.held_by_entry AS entry_id, f.lane_id, l.realm, COALESCE(e.username, l.username_key) AS username,
  COALESCE(e.kind, '') AS kind, COALESCE(e.event_id, '') AS event_id, COALESCE(e.state, 'DEAD_LETTER') AS state,
  f.held_reason AS reason, IF(f.held_reason IN ('email_in_use', 'username_in_use', 'conflict'), e.email_holder, NULL) AS holder, e.ended_at AS since, TIMESTAMPDIFF(MICROSECOND, e.ended_at, NOW(6)) / 1e6 AS seconds,
  l.arrivals, (SELECT COUNT(*) FROM entries b WHERE b.lane_id = f.lane_id AND b.is_open = 1) AS behind
FROM folds f JOIN lanes l ON l.lane_id = f.lane_id LEFT JOIN entries e ON e.entry_id = f.held_by_entry
WHERE f.held_by_entry IS NOT NULL AND (%(lane)s IS NULL OR f.lane_id = %(lane)s)
  AND (%(realm)s IS NULL OR l.realm = %(realm)s) AND (%(event_id)s IS NULL OR e.event_id = %(event_id)s)
  AND (%(reason)s IS NULL OR f.held_reason = %(reason)s)
ORDER BY f.held_by_entry LIMIT %(limit)s;

-- name: held_counts
-- Held entries by reason. Index: by_state.
SELECT state_reason AS reason, COUNT(*) AS entries FROM entries WHERE state = 'HELD' GROUP BY state_reason;

-- name: held_lane_count
-- How many lanes wait behind a dead letter. Index: held.
SELECT COUNT(*) AS n FROM folds WHERE held_by_entry IS NOT NULL;

-- name: for_somebody
-- The next changes of users that wait for one of these reasons, and since which attempt; oldest first.
-- Looked at are those that go on first of the users who wait, and of those whose turn it is: a change that is tried at
-- this moment waits no less. Indexes: due, urgent; lane; PRIMARY of attempts.
SELECT w.*, NULL AS holder, TIMESTAMPDIFF(MICROSECOND, w.since, NOW(6)) / 1e6 AS seconds FROM (
  SELECT e.entry_id, e.lane_id, l.realm, e.username, e.kind, e.event_id, e.state, e.state_reason AS reason, l.arrivals,
    (SELECT MIN(a.started_at) FROM attempts a WHERE a.entry_id = e.entry_id AND a.reason = e.state_reason) AS since,
    (SELECT COUNT(*) FROM entries b WHERE b.lane_id = e.lane_id AND b.is_open = 1 AND b.entry_id > e.entry_id) AS behind
  FROM ((SELECT lane_id, realm, arrivals FROM lanes waits FORCE INDEX (due) WHERE due_at IS NOT NULL AND state = 'WAITING'
          AND (%(lane)s IS NULL OR lane_id = %(lane)s) ORDER BY due_at LIMIT %(looked_at)s)
        UNION ALL (SELECT lane_id, realm, arrivals FROM lanes turns FORCE INDEX (urgent) WHERE state = 'READY'
          AND (%(lane)s IS NULL OR lane_id = %(lane)s) ORDER BY urgent_at LIMIT %(looked_at)s)) l
  JOIN entries e ON e.entry_id = (SELECT h.entry_id FROM entries h FORCE INDEX (lane)
      WHERE h.lane_id = l.lane_id AND h.is_open = 1 ORDER BY h.entry_id LIMIT 1)
  WHERE e.state = 'PENDING' AND e.state_reason IN %(reasons)s
    AND (%(realm)s IS NULL OR l.realm = %(realm)s) AND (%(event_id)s IS NULL OR e.event_id = %(event_id)s)
    AND (%(reason)s IS NULL OR e.state_reason = %(reason)s)
  ORDER BY e.entry_id LIMIT %(limit)s) w;

-- name: for_somebody_counts
-- How many users wait for one of these reasons, of the same. Indexes: due, urgent; lane.
SELECT e.state_reason AS reason, COUNT(*) AS lanes
FROM ((SELECT lane_id FROM lanes waits FORCE INDEX (due) WHERE due_at IS NOT NULL AND state = 'WAITING'
         ORDER BY due_at LIMIT %(looked_at)s)
      UNION ALL (SELECT lane_id FROM lanes turns FORCE INDEX (urgent) WHERE state = 'READY'
         ORDER BY urgent_at LIMIT %(looked_at)s)) l
JOIN entries e ON e.entry_id = (SELECT h.entry_id FROM entries h FORCE INDEX (lane)
    WHERE h.lane_id = l.lane_id AND h.is_open = 1 ORDER BY h.entry_id LIMIT 1)
WHERE e.state = 'PENDING' AND e.state_reason IN %(reasons)s GROUP BY e.state_reason;

-- name: knows_realm
-- Whether there is a user of this realm. Index: user.
SELECT 1 AS known FROM lanes WHERE realm = %(realm)s LIMIT 1;
