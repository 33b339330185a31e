-- name: ensure
-- The row of the chore.
INSERT INTO housekeeping (chore) VALUES ('purge') ON DUPLICATE KEY UPDATE chore = VALUES(chore);

-- name: begin
-- Take the chore, unless somebody is at it or was done with it a moment ago.
UPDATE housekeeping SET owner = %(owner)s, deadline = NOW(6) + INTERVAL %(seconds)s SECOND
WHERE chore = 'purge' AND deadline <= NOW(6)
  AND (finished_at IS NULL OR finished_at <= NOW(6) - INTERVAL %(unless_within_us)s MICROSECOND);

-- name: renew
-- Still at it. No row: it took us too long, and somebody else may have begun.
UPDATE housekeeping SET deadline = NOW(6) + INTERVAL %(seconds)s SECOND
WHERE chore = 'purge' AND owner = %(owner)s AND deadline > NOW(6);

-- name: finish
-- Done, to the end.
UPDATE housekeeping SET owner = NULL, deadline = NOW(6), finished_at = NOW(6) WHERE chore = 'purge' AND owner = %(owner)s;

-- name: expired
-- The next entries of a state whose retention has passed, in the order of their end, locked.
-- `only` 1 is a pass for these kinds, 0 one for all others; what is not of the pass is kept, so that a piece is bounded whatever stands there.
-- A dead letter is kept while it holds its lane, or its lane is held or has open entries. Index: by_state; for
-- what is kept: lane, held.
SELECT e.entry_id, e.ended_at, (e.kind IN %(kinds)s) <> %(only)s OR e.state = 'DEAD_LETTER' AND (
    EXISTS (SELECT 1 FROM lanes l WHERE l.lane_id = e.lane_id AND l.state = 'HELD')
    OR EXISTS (SELECT 1 FROM folds f WHERE f.held_by_entry = e.entry_id)
    OR EXISTS (SELECT 1 FROM entries o FORCE INDEX (lane) WHERE o.lane_id = e.lane_id AND o.is_open = 1)) AS kept
FROM entries e FORCE INDEX (by_state)
WHERE e.state = %(state)s AND e.ended_at >= %(after)s AND e.ended_at < NOW(6) - INTERVAL %(seconds)s SECOND
  AND (e.ended_at > %(after)s OR e.entry_id > %(after_id)s)
ORDER BY e.ended_at, e.entry_id LIMIT %(limit)s FOR UPDATE SKIP LOCKED;

-- name: count_expired
-- How many there are, for a dry run. Index: by_state; for what is kept: lane.
SELECT COUNT(*) AS n FROM entries e FORCE INDEX (by_state)
WHERE e.state = %(state)s AND e.ended_at < NOW(6) - INTERVAL %(seconds)s SECOND
  AND (e.kind IN %(kinds)s) = %(only)s
  AND (e.state <> 'DEAD_LETTER' OR NOT (
    EXISTS (SELECT 1 FROM lanes l WHERE l.lane_id = e.lane_id AND l.state = 'HELD')
    OR EXISTS (SELECT 1 FROM folds f WHERE f.held_by_entry = e.entry_id)
    OR EXISTS (SELECT 1 FROM entries o FORCE INDEX (lane) WHERE o.lane_id = e.lane_id AND o.is_open = 1)));

-- name: delete_attempts
-- The calls of entries that go.
DELETE FROM attempts WHERE entry_id IN %(entries)s;

-- name: delete_entries
-- Terminal entries, by primary key. What the ledger and the marks say of them stays longer.
DELETE FROM entries WHERE entry_id IN %(entries)s AND state = %(state)s;

-- name: delete_poison
-- The oldest poison. Its marks stay longer. Index: by_time.
DELETE FROM poison WHERE received_at < NOW(6) - INTERVAL %(seconds)s SECOND ORDER BY received_at LIMIT %(limit)s;

-- name: count_poison
-- How much there is, for a dry run. Index: by_time.
SELECT COUNT(*) AS n FROM poison WHERE received_at < NOW(6) - INTERVAL %(seconds)s SECOND;

-- name: count_silent_instances
-- Instances that have been silent for a day, for a dry run.
SELECT COUNT(*) AS n FROM instances WHERE deadline < NOW(6) - INTERVAL 1 DAY;

-- name: kept_passwords
-- The next folds that keep a last password whose time is over, in the order of their times, locked.
-- Needed is one while its lane is in doubt, or a call of it is under way or was and nobody has recorded what became of it.
-- Index: kept; for what is needed: lane.
SELECT f.lane_id, f.credential_at, f.suspect_since IS NOT NULL OR EXISTS (
    SELECT 1 FROM entries e FORCE INDEX (lane) WHERE e.lane_id = f.lane_id AND e.is_open = 1
      AND (e.maybe_applied_since IS NOT NULL OR e.claimed_at IS NOT NULL)) AS needed
FROM folds f FORCE INDEX (kept)
WHERE f.credential_at >= %(after)s AND f.credential_at <= NOW(6) - INTERVAL %(seconds)s SECOND
  AND (f.credential_at > %(after)s OR f.lane_id > %(after_lane)s)
ORDER BY f.credential_at, f.lane_id LIMIT %(limit)s FOR UPDATE SKIP LOCKED;

-- name: forget_passwords
-- Which event set the password stays known: an older one must not win.
UPDATE folds SET credential = NULL, credential_at = NULL, updated_at = updated_at WHERE lane_id IN %(lanes)s;

-- name: count_kept_passwords
-- How many there are, for a dry run. Index: kept.
SELECT COUNT(*) AS n FROM folds FORCE INDEX (kept) WHERE credential_at <= NOW(6) - INTERVAL %(seconds)s SECOND AND suspect_since IS NULL;
