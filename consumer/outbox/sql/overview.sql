-- name: entry_counts
-- Entries by state. Index: by_state.
SELECT state, COUNT(*) AS entries FROM entries GROUP BY state;

-- name: oldest_pending
-- How long the oldest unfinished entry has waited. Index: by_state, its first end, then the primary key.
SELECT TIMESTAMPDIFF(MICROSECOND, ingested_at, NOW(6)) / 1e6 AS seconds FROM entries
WHERE entry_id = (SELECT MIN(entry_id) FROM entries WHERE state = 'PENDING' AND ended_at IS NULL);

-- name: lane_counts
-- Lanes by state. Index: urgent.
SELECT state, COUNT(*) AS lanes FROM lanes GROUP BY state;

-- name: waiting_for
-- What the next lanes that wait are waiting for: the reasons of their heads' last attempts. Indexes: due; lane.
-- Without the hint MariaDB 10.11 sorts all lanes that wait.
SELECT e.state_reason AS reason, COUNT(*) AS lanes
FROM (SELECT lane_id FROM lanes FORCE INDEX (due) WHERE due_at IS NOT NULL AND state = 'WAITING' ORDER BY due_at LIMIT %(limit)s) w
JOIN entries e ON e.entry_id = (SELECT h.entry_id FROM entries h FORCE INDEX (lane)
    WHERE h.lane_id = w.lane_id AND h.is_open = 1 ORDER BY h.entry_id LIMIT 1)
WHERE e.state = 'PENDING' AND e.state_reason IS NOT NULL GROUP BY e.state_reason;

-- name: heals_refused
-- Users whom Keycloak refused to make equal to what was delivered. Index: heal_refused.
SELECT heal_refused AS reason, COUNT(*) AS lanes FROM folds WHERE heal_refused IS NOT NULL GROUP BY heal_refused;

-- name: poison_count
-- Records that are no events, until their retention is over; their marks stay longer. Indexes: by_time, by_kind.
-- Where many came at once, some are marked and not kept: they count as long as an older one is kept.
SELECT GREATEST(COUNT(*), (SELECT COUNT(*) FROM marks FORCE INDEX (by_kind)
    WHERE kind = 'poison' AND marked_at >= (SELECT MIN(received_at) FROM poison))) AS n FROM poison;

-- name: duplicate_count
-- Events met at a second offset, as long as they are remembered. Index: by_kind.
SELECT COUNT(*) AS n FROM marks WHERE kind = 'duplicate';

-- name: watermarks
-- How far each partition was ingested.
SELECT t.cluster, t.name AS topic, w.partition_no, w.next_offset, w.writer, w.updated_at, w.paused_for, w.yields,
  w.log_start
FROM watermarks w JOIN topics t USING (topic_id) ORDER BY t.name, w.partition_no;

-- name: table_counts
-- Rows in every table of ours, as `kcsync test` shows them.
SELECT 'topics' AS name, COUNT(*) AS n FROM topics UNION ALL
SELECT 'watermarks', COUNT(*) FROM watermarks UNION ALL
SELECT 'entries', COUNT(*) FROM entries UNION ALL
SELECT 'lanes', COUNT(*) FROM lanes UNION ALL
SELECT 'folds', COUNT(*) FROM folds UNION ALL
SELECT 'ledger', COUNT(*) FROM ledger UNION ALL
SELECT 'marks', COUNT(*) FROM marks UNION ALL
SELECT 'poison', COUNT(*) FROM poison UNION ALL
SELECT 'attempts', COUNT(*) FROM attempts UNION ALL
SELECT 'leases', COUNT(*) FROM leases UNION ALL
SELECT 'instances', COUNT(*) FROM instances UNION ALL
SELECT 'circuits', COUNT(*) FROM circuits UNION ALL
SELECT 'realms', COUNT(*) FROM realms UNION ALL
SELECT 'backlog', COUNT(*) FROM backlog UNION ALL
SELECT 'housekeeping', COUNT(*) FROM housekeeping UNION ALL
SELECT 'commands', COUNT(*) FROM commands UNION ALL
SELECT 'maintenance', COUNT(*) FROM maintenance UNION ALL
SELECT 'deletions', COUNT(*) FROM deletions UNION ALL
SELECT 'audit', COUNT(*) FROM audit;

-- name: queue
-- Unfinished entries and dead letters, for the summary line. Index: by_state.
SELECT SUM(state = 'PENDING') AS pending, SUM(state = 'HELD') AS held, SUM(state = 'DEAD_LETTER') AS dead
FROM entries WHERE state IN ('PENDING', 'HELD', 'DEAD_LETTER');
