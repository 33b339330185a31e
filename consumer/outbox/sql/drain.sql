-- name: ready_lanes
-- Lanes that may go on, those that waited longest for their priority first (docs/decisions/0020).
-- Each is one JSON array, in the order of `drain_store._lane`. Index: urgent.
SELECT JSON_ARRAY(HEX(lane_id), realm, username_key, arrivals, priority) AS lane FROM lanes
WHERE state = 'READY' AND shard IN %(shards)s AND lane_id NOT IN %(in_hand)s
ORDER BY urgent_at LIMIT %(limit)s;

-- name: wake_lanes
-- Waiting lanes whose time has come. They keep their place: what an outage cut off goes first. Index: due.
UPDATE lanes SET state = 'READY', due_at = NULL
WHERE due_at <= NOW(6) AND state = 'WAITING' AND shard IN %(shards)s;

-- name: waiting_for_outage
-- Waiting lanes whose head failed in an outage that is over; not those that doubt keeps from being called.
-- Indexes: due; lane, one look however long the lane is.
SELECT l.lane_id, e.entry_id FROM lanes l FORCE INDEX (due) JOIN entries e ON e.entry_id = (
  SELECT h.entry_id FROM entries h FORCE INDEX (lane) WHERE h.lane_id = l.lane_id AND h.is_open = 1
  ORDER BY h.entry_id LIMIT 1)
WHERE l.state = 'WAITING' AND l.due_at > NOW(6) AND l.shard IN %(shards)s AND e.state = 'PENDING'
  AND e.claimed_at IS NULL AND e.state_reason IN %(reasons)s
  AND (e.maybe_applied_since IS NULL OR e.kind NOT IN %(wait_in_doubt)s)
LIMIT %(limit)s;

-- name: hurry_entries
-- They are due now, unless they have been claimed since.
UPDATE entries SET next_attempt_at = NULL WHERE entry_id IN %(entries)s AND state = 'PENDING' AND claimed_at IS NULL;

-- name: hurry_lanes
-- So are their lanes. They keep their place: what an outage cut off goes first.
UPDATE lanes SET state = 'READY', due_at = NULL WHERE lane_id IN %(lanes)s AND state = 'WAITING';

-- name: entry_document
-- An entry as one JSON array, in the order of `drain_store._head`.
-- The driver needs 36 µs for the columns of an entry and its fold, and 11 µs for two such arrays (measured).
JSON_ARRAY(e.entry_id, e.topic_id, e.partition_no, e.log_offset, e.origin, e.kind, e.source, e.event_id, e.username,
  e.priority, HEX(e.traceparent), HEX(e.tracestate), CONVERT(e.data USING utf8mb4), HEX(e.credential), e.state,
  e.state_reason, e.attempts, e.calls, e.openings, e.claimed_at, e.eligible_us, e.maybe_applied_since,
  TIMESTAMPDIFF(MICROSECOND, NOW(6), e.next_attempt_at), TIMESTAMPDIFF(MICROSECOND, e.charged_at, NOW(6)));

-- name: fold_document
-- A fold as one JSON array, in the order of `drain_store._fold`.
JSON_ARRAY(f.user_exists, f.exists_topic_id, f.exists_partition, f.exists_offset, CONVERT(f.fields USING utf8mb4),
  f.user_id, HEX(f.credential), f.credential_event_id, f.credential_topic_id, f.credential_partition,
  f.credential_offset, f.credential_date, f.suspect_since, f.suspect_kind, f.held_by_entry, f.held_reason,
  f.credential_at, f.heal_refused, CONVERT(f.doubt USING utf8mb4), f.looks, f.look_at, CONVERT(f.drift USING utf8mb4),
  f.drift_at);

-- name: heads
-- The first open entry of each lane, its head, whether another stands behind it, and what is known of the user.
-- Each is one JSON array; a lane without open entries is missing. Index: lane, two looks however long the lane is.
SELECT JSON_ARRAY(HEX(l.lane_id), e.entry_id < (SELECT t.entry_id FROM entries t FORCE INDEX (lane)
    WHERE t.lane_id = l.lane_id AND t.is_open = 1 ORDER BY t.entry_id DESC LIMIT 1),
  {entry_document}, f.lane_id IS NOT NULL, {fold_document}) AS head
FROM lanes l
JOIN entries e ON e.entry_id = (SELECT h.entry_id FROM entries h FORCE INDEX (lane)
    WHERE h.lane_id = l.lane_id AND h.is_open = 1 ORDER BY h.entry_id LIMIT 1)
LEFT JOIN folds f ON f.lane_id = l.lane_id
WHERE l.lane_id IN %(lanes)s;

-- name: first_open
-- The first open entries of one lane. Index: lane. Joined by UNION ALL.
(SELECT entry_id FROM entries FORCE INDEX (lane) WHERE lane_id = %s AND is_open = 1 ORDER BY entry_id LIMIT %s);

-- name: open_entries
-- Entries by their ids, if they are open, each with its lane in one JSON array.
SELECT JSON_ARRAY(HEX(e.lane_id), {entry_document}) AS entry FROM entries e
WHERE e.entry_id IN %(entries)s AND e.is_open = 1 ORDER BY e.entry_id;

-- name: unclear_entry
-- Whether an entry of a lane is in doubt itself: it is called again first. Index: lane.
EXISTS (SELECT 1 FROM entries e WHERE e.lane_id = l.lane_id AND e.is_open = 1
    AND (e.maybe_applied_since IS NOT NULL OR e.claimed_at IS NOT NULL));

-- name: suspects
-- Lanes in doubt long enough, or of which others noted a doubt, or at which one more look is due.
-- Not those of which an entry is in doubt itself. Those in doubt go first. Indexes: suspect, look, due, lane.
(SELECT l.lane_id, l.realm, l.username_key, l.arrivals, l.priority FROM folds f JOIN lanes l ON l.lane_id = f.lane_id
WHERE f.suspect_since < NOW(6) - INTERVAL %(after)s SECOND AND f.shard IN %(shards)s
  AND l.realm NOT IN %(resting)s AND NOT {unclear_entry} ORDER BY f.suspect_since LIMIT %(limit)s)
UNION
(SELECT l.lane_id, l.realm, l.username_key, l.arrivals, l.priority FROM doubts d JOIN lanes l ON l.lane_id = d.lane_id
WHERE d.due_at <= NOW(6) AND d.shard IN %(shards)s
  AND l.realm NOT IN %(resting)s AND NOT {unclear_entry} ORDER BY d.due_at LIMIT %(limit)s)
UNION
(SELECT l.lane_id, l.realm, l.username_key, l.arrivals, l.priority FROM folds k JOIN lanes l ON l.lane_id = k.lane_id
WHERE k.look_at <= NOW(6) AND k.shard IN %(shards)s
  AND l.realm NOT IN %(resting)s AND NOT {unclear_entry} ORDER BY k.look_at LIMIT %(limit)s);

-- name: still_suspect
-- The same of lanes that are in hand, with their folds.
SELECT l.lane_id, IF(f.lane_id IS NULL, NULL, {fold_document}) AS fold, NOW(6) AS asked_at,
  COALESCE(f.suspect_since < NOW(6) - INTERVAL %(after)s SECOND, 0) AS in_doubt
FROM lanes l LEFT JOIN folds f ON f.lane_id = l.lane_id
WHERE l.lane_id IN %(lanes)s AND NOT {unclear_entry}
  AND (f.suspect_since < NOW(6) - INTERVAL %(after)s SECOND OR f.look_at <= NOW(6)
    OR EXISTS (SELECT 1 FROM doubts d WHERE d.lane_id = l.lane_id AND d.due_at <= NOW(6)));

-- name: noted_doubts
-- What others noted of lanes, as far as it is due. Index: lane.
SELECT doubt_id, lane_id, CONVERT(doubt USING utf8mb4) AS doubt FROM doubts FORCE INDEX (lane)
WHERE lane_id IN %(lanes)s AND due_at <= NOW(6) ORDER BY doubt_id;

-- name: note_doubts
-- Note doubts of lanes, whoever owns them.
INSERT INTO doubts (lane_id, shard, kind, doubt, due_at)
SELECT UNHEX(j.lane), j.shard, %(kind)s, j.doubt, NOW(6) + INTERVAL %(after)s SECOND
FROM JSON_TABLE(%(rows)s, '$[*]' COLUMNS (
    lane VARCHAR(32) PATH '$.lane', shard INT PATH '$.shard', doubt MEDIUMTEXT PATH '$.doubt')) j;

-- name: remove_doubts
-- They stand in folds now, or are over.
DELETE FROM doubts WHERE doubt_id IN %(doubts)s;

-- name: keep_doubt
-- Entries that were claimed by somebody who never recorded a result: a call may have taken effect since then.
UPDATE entries SET maybe_applied_since = COALESCE(maybe_applied_since, claimed_at)
WHERE entry_id IN %(entries)s AND claimed_at IS NOT NULL AND state = 'PENDING';

-- name: claim
-- The durable mark "maybe started", under the tokens of shards that are locked.
UPDATE entries SET claimed_at = %(locked_at)s, claim_token = (SELECT l.token FROM leases l WHERE l.shard = entries.shard)
WHERE entry_id IN %(entries)s AND state = 'PENDING';

-- name: claimed
-- Which of the entries that were to be claimed are pending.
SELECT entry_id FROM entries WHERE entry_id IN %(entries)s AND state = 'PENDING';

-- name: still_pending
-- Which of these entries are pending still, whoever owns their shard today. Waits for a write-back still committing.
SELECT entry_id, claim_token FROM entries WHERE entry_id IN %(entries)s AND state = 'PENDING' LOCK IN SHARE MODE;

-- name: unfinished
-- The head of a lane: whose name or e-mail address does it wait for, if anybody's? Index: lane, one look.
SELECT IF(e.state_reason IN ('email_in_use', 'username_in_use', 'conflict'), COALESCE(e.email_holder, ''), '') AS waits_for
FROM entries e FORCE INDEX (lane) WHERE e.lane_id = %(lane)s AND e.is_open = 1 ORDER BY e.entry_id LIMIT 1;

-- name: unclaim
-- Entries handed back before any call: as if they had never been claimed.
UPDATE JSON_TABLE(%(rows)s, '$[*]' COLUMNS (
    entry_id BIGINT UNSIGNED PATH '$.entry_id', token BIGINT UNSIGNED PATH '$.token')) j
STRAIGHT_JOIN entries e ON e.entry_id = j.entry_id
SET e.claimed_at = NULL, e.claim_token = NULL
WHERE e.state = 'PENDING' AND e.claim_token = j.token;

-- name: settle_alike
-- Write one and the same result of many calls: a third of what `settle` costs MariaDB (measured).
-- The password of what was delivered is the fold's to keep, as `credential_retention` says.
UPDATE entries SET maybe_applied_since = COALESCE(%(maybe)s, maybe_applied_since), state = %(state)s,
  state_reason = COALESCE(%(reason)s, state_reason), attempts = %(attempts)s, calls = %(calls)s,
  openings = %(openings)s, eligible_us = %(eligible_us)s, charged_at = IF(%(charged)s = 1, NOW(6), charged_at),
  next_attempt_at = NOW(6) + INTERVAL %(delay_us)s MICROSECOND,
  ended_at = IF(%(state)s IN ('PENDING', 'HELD'), NULL, NOW(6)), claimed_at = NULL, claim_token = NULL,
  credential = IF(%(state)s = 'DELIVERED', NULL, credential), email_holder = COALESCE(%(holder)s, email_holder)
WHERE entry_id IN %(entries)s AND state = 'PENDING';

-- name: settle
-- Write the results of many calls. The leases are locked and their tokens compared by the caller.
UPDATE JSON_TABLE(%(rows)s, '$[*]' COLUMNS (
    entry_id BIGINT UNSIGNED PATH '$.entry_id', state VARCHAR(16) PATH '$.state', reason VARCHAR(64) PATH '$.reason',
    attempts INT PATH '$.attempts', calls INT PATH '$.calls', openings INT PATH '$.openings',
    charged INT PATH '$.charged', eligible_us BIGINT UNSIGNED PATH '$.eligible_us', delay_us BIGINT PATH '$.delay_us', maybe DATETIME(6) PATH '$.maybe',
    holder VARCHAR(255) PATH '$.holder')) j
STRAIGHT_JOIN entries e ON e.entry_id = j.entry_id
SET e.maybe_applied_since = COALESCE(j.maybe, e.maybe_applied_since), e.state = j.state,
  e.state_reason = COALESCE(j.reason, e.state_reason), e.attempts = j.attempts, e.calls = j.calls,
  e.openings = j.openings, e.eligible_us = j.eligible_us,
  e.charged_at = IF(j.charged = 1, NOW(6), e.charged_at),
  e.next_attempt_at = NOW(6) + INTERVAL j.delay_us MICROSECOND,
  e.ended_at = IF(j.state IN ('PENDING', 'HELD'), NULL, NOW(6)),
  e.claimed_at = NULL, e.claim_token = NULL, e.credential = IF(j.state = 'DELIVERED', NULL, e.credential),
  e.email_holder = COALESCE(j.holder, e.email_holder)
WHERE e.state = 'PENDING';

-- name: insert_attempts
-- One row a recorded call.
INSERT INTO attempts (entry_id, n, started_at, ended_at, outcome, reason, http_status, charged, trace_id, instance,
  error)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s);

-- name: judge_attempts
-- Say of earlier calls whether they were charged to their entry.
UPDATE attempts SET charged = %(charged)s WHERE entry_id IN %(entries)s AND charged IS NULL;

-- name: upsert_folds
-- The lanes' sums after these deliveries.
INSERT INTO folds (lane_id, shard, user_exists, exists_topic_id, exists_partition, exists_offset, fields, user_id,
  credential, credential_event_id, credential_topic_id, credential_partition, credential_offset, credential_date,
  suspect_since, suspect_kind, held_by_entry, held_reason, credential_at, heal_refused, doubt, looks, look_at, drift,
  drift_at)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
ON DUPLICATE KEY UPDATE user_exists = VALUES(user_exists), exists_topic_id = VALUES(exists_topic_id),
  exists_partition = VALUES(exists_partition), exists_offset = VALUES(exists_offset), fields = VALUES(fields),
  user_id = VALUES(user_id), credential = VALUES(credential), credential_event_id = VALUES(credential_event_id),
  credential_topic_id = VALUES(credential_topic_id), credential_partition = VALUES(credential_partition),
  credential_offset = VALUES(credential_offset), credential_date = VALUES(credential_date),
  suspect_since = VALUES(suspect_since), suspect_kind = VALUES(suspect_kind),
  held_by_entry = VALUES(held_by_entry), held_reason = VALUES(held_reason), credential_at = VALUES(credential_at),
  heal_refused = VALUES(heal_refused), doubt = VALUES(doubt), looks = VALUES(looks), look_at = VALUES(look_at),
  drift = VALUES(drift), drift_at = VALUES(drift_at);

-- name: insert_dead_marks
-- A dead event may not be folded by a replay.
INSERT INTO marks (topic_id, partition_no, log_offset, kind, lane_id) VALUES (%s, %s, %s, %s, %s)
ON DUPLICATE KEY UPDATE marked_at = VALUES(marked_at);

-- name: recount
-- The most urgent open entry of each of these lanes, and the tail it was found with. Index: lane.
SELECT l.lane_id, l.arrivals,
  (SELECT MIN(e.priority) FROM entries e WHERE e.lane_id = l.lane_id AND e.is_open = 1) AS priority
FROM lanes l WHERE l.lane_id IN %(lanes)s;

-- name: idle_lanes
-- Put lanes to sleep behind their last entry, unless another has arrived since we looked.
UPDATE lanes SET state = IF((lane_id, arrivals) IN %(tails)s, 'IDLE', 'READY'), ready_since = NOW(6), due_at = NULL
WHERE lane_id IN %(lanes)s;

-- name: hint_lanes
-- Put lanes where their head stands. Idle only if nothing arrived since we looked; less urgent only then, too.
UPDATE JSON_TABLE(%(rows)s, '$[*]' COLUMNS (
    lane VARCHAR(32) PATH '$.lane', state VARCHAR(8) PATH '$.state', arrivals BIGINT UNSIGNED PATH '$.arrivals',
    priority INT PATH '$.priority', recounted INT PATH '$.recounted', delay_us BIGINT PATH '$.delay_us')) j
STRAIGHT_JOIN lanes l ON l.lane_id = UNHEX(j.lane)
SET l.state = IF(j.state = 'IDLE' AND l.arrivals <> j.arrivals, 'READY', j.state),
  l.ready_since = IF(j.state IN ('IDLE', 'READY'), NOW(6), l.ready_since),
  l.due_at = IF(j.state = 'WAITING', NOW(6) + INTERVAL j.delay_us MICROSECOND, NULL),
  l.priority = CASE WHEN j.priority IS NULL THEN l.priority
    WHEN j.recounted = 1 AND l.arrivals = j.arrivals THEN j.priority ELSE LEAST(l.priority, j.priority) END;

-- name: park_lanes
-- Remember for which kind lanes wait.
INSERT INTO parked (lane_id, shard, kind, urgent_at)
SELECT l.lane_id, l.shard, j.kind, l.urgent_at FROM JSON_TABLE(%(rows)s, '$[*]' COLUMNS (
    lane VARCHAR(32) PATH '$.lane', kind VARCHAR(64) PATH '$.kind')) j
STRAIGHT_JOIN lanes l ON l.lane_id = UNHEX(j.lane)
ON DUPLICATE KEY UPDATE kind = VALUES(kind), urgent_at = VALUES(urgent_at);

-- name: parked
-- Lanes that wait for one kind, most urgent first. Index: next.
SELECT lane_id FROM parked WHERE kind = %(kind)s AND shard IN %(shards)s ORDER BY urgent_at LIMIT %(limit)s;

-- name: forget_parked
-- They wait no longer.
DELETE FROM parked WHERE lane_id IN %(lanes)s;

-- name: unpark_lanes
-- They keep their place. One that waits for its own next attempt is looked at once more than needed.
UPDATE lanes SET state = 'READY', due_at = NULL WHERE lane_id IN %(lanes)s AND state = 'WAITING';

-- name: asleep_lanes
-- Lanes that sleep although they have work: idle, or held though their head is not.
-- Indexes: by_state, walked in pieces of entry ids (a pending entry has not ended, which lets the ids bound the range);
-- for the head: lane. Without the hints, or with NOT EXISTS, MariaDB reads every entry (measured).
SELECT DISTINCT e.lane_id FROM entries e FORCE INDEX (by_state) STRAIGHT_JOIN lanes l ON l.lane_id = e.lane_id
WHERE e.state = 'PENDING' AND e.ended_at IS NULL AND e.entry_id > %(after)s AND e.entry_id <= %(until)s
  AND l.shard IN %(shards)s AND (l.state = 'IDLE' OR l.state = 'HELD' AND 'HELD' <> (
    SELECT h.state FROM entries h FORCE INDEX (lane) WHERE h.lane_id = l.lane_id AND h.is_open = 1
    ORDER BY h.entry_id LIMIT 1) AND (SELECT f.held_by_entry FROM folds f WHERE f.lane_id = l.lane_id) IS NULL);

-- name: rouse_lanes
-- Let the scheduler look at these lanes again.
UPDATE lanes l SET l.state = 'READY', l.ready_since = NOW(6), l.priority = COALESCE(
    (SELECT MIN(e.priority) FROM entries e WHERE e.lane_id = l.lane_id AND e.is_open = 1), l.priority)
WHERE l.lane_id IN %(lanes)s AND l.state IN ('IDLE', 'HELD');

-- name: open_range
-- The ids between which open entries stand. Index: by_state, its two ends (a pending entry has not ended).
SELECT MIN(entry_id) AS first_id, MAX(entry_id) AS last_id FROM entries WHERE state = 'PENDING' AND ended_at IS NULL;
