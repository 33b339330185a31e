-- name: known_now
-- Held entries whose kind and version were unknown when they came, and are known now. Index: by_state.
SELECT e.entry_id, e.lane_id, e.shard, e.topic_id, e.partition_no, e.log_offset, e.kind, e.schema_version, e.source,
  e.event_id, e.username, e.event_time, e.data, l.realm
FROM entries e
JOIN JSON_TABLE(%(known)s, '$[*]' COLUMNS (kind VARCHAR(64) PATH '$.kind', version INT UNSIGNED PATH '$.version')) k
  ON e.kind = k.kind COLLATE utf8mb4_nopad_bin AND e.schema_version <= k.version
JOIN lanes l ON l.lane_id = e.lane_id
WHERE e.state = 'HELD' AND e.state_reason IN ('kind_unregistered', 'schema_newer') AND e.shard IN %(shards)s
  AND e.entry_id > %(after)s
ORDER BY e.entry_id LIMIT %(limit)s;

-- name: lock_ours
-- The shards that are ours now, locked: nobody takes them over before this transaction ends.
SELECT shard FROM leases WHERE shard IN %(shards)s AND owner = %(owner)s AND deadline > NOW(6) ORDER BY shard FOR UPDATE;

-- name: release
-- Let held entries go on, or end, as they were read now.
UPDATE JSON_TABLE(%(rows)s, '$[*]' COLUMNS (
    entry_id BIGINT UNSIGNED PATH '$.entry_id', state VARCHAR(16) PATH '$.state', reason VARCHAR(64) PATH '$.reason',
    data LONGTEXT PATH '$.data', credential TEXT PATH '$.credential')) j
STRAIGHT_JOIN entries e ON e.entry_id = j.entry_id
SET e.data = COALESCE(UNHEX(j.data), e.data), e.credential = UNHEX(j.credential), e.state = j.state,
  e.state_reason = j.reason, e.ended_at = IF(j.state = 'PENDING', NULL, NOW(6))
WHERE e.state = 'HELD' AND e.state_reason IN ('kind_unregistered', 'schema_newer');

-- name: mark_dead
-- A dead event may not be folded by a replay.
INSERT INTO marks (topic_id, partition_no, log_offset, kind, lane_id) VALUES (%s, %s, %s, %s, %s)
ON DUPLICATE KEY UPDATE marked_at = VALUES(marked_at);

-- name: look_again
-- Their lanes may go on; the scheduler looks.
UPDATE lanes SET state = 'READY', ready_since = NOW(6) WHERE lane_id IN %(lanes)s AND state = 'HELD';
