-- name: queue
-- Ask something of the owners of these lanes. It expires by itself after an hour.
INSERT INTO commands (request, lane_id, shard, action, entry_id, seen_state, seen_arrivals, actor, why)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s);

-- name: forget_answered
-- What was answered a week ago; the audit keeps it. Index: answered.
DELETE FROM commands WHERE answered_at < NOW(6) - INTERVAL 7 DAY LIMIT 10000;

-- name: waiting
-- The oldest unanswered command of each lane of these shards, lane by lane.
-- Index: waiting, alone and in its order, so that the search ends at the limit however many wait: a lane's shard is the
-- first byte of its id.
SELECT c.command_id, c.action, c.entry_id, c.seen_state, c.seen_arrivals, c.actor, c.why, c.lane_id, l.realm,
  l.username_key, l.arrivals, l.priority
FROM (SELECT MIN(command_id) AS command_id FROM commands FORCE INDEX (waiting)
      WHERE answer IS NULL AND ORD(lane_id) IN %(shards)s GROUP BY lane_id ORDER BY lane_id LIMIT %(limit)s) w
JOIN commands c ON c.command_id = w.command_id JOIN lanes l ON l.lane_id = c.lane_id;

-- name: found
-- How things stand with what these commands are about, while their lanes are in hand.
-- For the head: lane, one look however long the lane is (MIN would read all of it).
SELECT c.command_id, c.expires_at <= NOW(6) AS expired, l.arrivals, e.state, e.state_reason, e.event_id,
  e.maybe_applied_since IS NOT NULL OR e.claimed_at IS NOT NULL AS in_doubt, f.held_by_entry,
  (SELECT h.entry_id FROM entries h FORCE INDEX (lane) WHERE h.lane_id = c.lane_id AND h.is_open = 1
    ORDER BY h.entry_id LIMIT 1) AS head_id
FROM commands c JOIN lanes l ON l.lane_id = c.lane_id LEFT JOIN entries e ON e.entry_id = c.entry_id
LEFT JOIN folds f ON f.lane_id = c.lane_id
WHERE c.command_id IN %(commands)s AND c.answer IS NULL;

-- name: lock_unanswered
-- Those that nobody has answered, with the states that nobody changes before this transaction ends.
-- It waits for a transaction of ours whose COMMIT we never heard of.
SELECT c.command_id, e.state FROM commands c LEFT JOIN entries e ON e.entry_id = c.entry_id
WHERE c.command_id IN %(commands)s AND c.answer IS NULL ORDER BY c.command_id FOR UPDATE;

-- name: change_entries
-- Open entries as their commands want them. The leases are locked and their tokens compared by the caller.
UPDATE JSON_TABLE(%(rows)s, '$[*]' COLUMNS (
    entry_id BIGINT UNSIGNED PATH '$.entry_id', state VARCHAR(16) PATH '$.state',
    reason VARCHAR(64) PATH '$.reason')) j
STRAIGHT_JOIN entries e ON e.entry_id = j.entry_id
SET e.openings = IF(e.state = 'HELD', 0, e.openings), e.state_reason = COALESCE(j.reason, e.state_reason),
  e.next_attempt_at = NULL, e.ended_at = IF(j.state = 'PENDING', NULL, NOW(6)), e.state = j.state
WHERE e.state IN ('PENDING', 'HELD');

-- name: mark_dead
-- An event that was dropped may not be folded by a replay.
INSERT INTO marks (topic_id, partition_no, log_offset, kind, lane_id)
SELECT topic_id, partition_no, log_offset, 'dead', lane_id FROM entries
WHERE entry_id IN %(entries)s AND topic_id IS NOT NULL
ON DUPLICATE KEY UPDATE marked_at = NOW(6);

-- name: end_holds
-- These lanes go on behind the dead letter that held them.
UPDATE folds SET held_by_entry = NULL, held_reason = NULL WHERE lane_id IN %(lanes)s;

-- name: allow_deletes
-- Places that operators gave.
INSERT INTO deletions (entry_id, realm, allowed_by) VALUES (%s, %s, %s)
ON DUPLICATE KEY UPDATE allowed_by = VALUES(allowed_by);

-- name: answer
-- Say what became of commands.
UPDATE JSON_TABLE(%(rows)s, '$[*]' COLUMNS (
    command_id BIGINT UNSIGNED PATH '$.command_id', answer VARCHAR(8) PATH '$.answer',
    detail VARCHAR(255) PATH '$.detail')) j
STRAIGHT_JOIN commands c ON c.command_id = j.command_id
SET c.answer = j.answer, c.detail = j.detail, c.answered_at = NOW(6), c.answered_by = %(owner)s
WHERE c.answer IS NULL;

-- name: audit
-- One line a command.
INSERT INTO audit (actor, action, arguments, outcome) VALUES (%s, %s, %s, %s);

-- name: answers
-- What has become of the commands of one request. Index: request.
SELECT answer, detail, COUNT(*) AS commands FROM commands WHERE request = %(request)s GROUP BY answer, detail;

-- name: shards_waiting
-- Shards that the request still waits for.
SELECT DISTINCT shard FROM commands WHERE request = %(request)s AND answer IS NULL;
