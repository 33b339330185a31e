-- name: let_through
-- Which of these entries have a place already.
SELECT entry_id FROM deletions WHERE entry_id IN %(entries)s;

-- name: ensure_realm
-- The row that reservations of a realm lock.
INSERT INTO realms (realm) VALUES (%(realm)s) ON DUPLICATE KEY UPDATE realm = VALUES(realm);

-- name: lock_realm
-- One reservation of a realm at a time, whichever the instance.
SELECT realm FROM realms WHERE realm = %(realm)s FOR UPDATE;

-- name: used
-- Places taken within the last hour; what an operator allowed is not counted. Index: recent.
SELECT COUNT(*) AS n FROM deletions
WHERE realm = %(realm)s AND reserved_at > NOW(6) - INTERVAL 1 HOUR AND allowed_by IS NULL;

-- name: reserve
-- Take places.
INSERT INTO deletions (entry_id, realm) VALUES (%s, %s) ON DUPLICATE KEY UPDATE realm = VALUES(realm);

-- name: users
-- Users of a realm who exist as far as we know, counted up to a limit. Index: user, then the primary key of folds.
SELECT COUNT(*) AS n FROM (
  SELECT 1 FROM lanes l STRAIGHT_JOIN folds f ON f.lane_id = l.lane_id
  WHERE l.realm = %(realm)s AND f.user_exists = 1 LIMIT %(limit)s) k;

-- name: forget
-- Places that say nothing any more: taken a day ago by entries that have come to an end. Index: recent.
DELETE FROM deletions WHERE realm = %(realm)s AND reserved_at < NOW(6) - INTERVAL 1 DAY
  AND NOT EXISTS (SELECT 1 FROM entries e WHERE e.entry_id = deletions.entry_id AND e.is_open = 1) LIMIT 10000;
