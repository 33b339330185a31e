-- A large, skewed outbox: 40,000 users, 150,000 entries, one user with 20,000 of them that wait, one tenant with most.
INSERT INTO topics (cluster, name) VALUES ('cluster', 'topic');

INSERT INTO watermarks (topic_id, partition_no, kafka_group, next_offset, log_start)
SELECT 1, seq, 'group', 50000, 40000 FROM seq_0_to_2;

-- One lane in ten has work.
INSERT INTO lanes (lane_id, shard, realm, username_key, home_topic_id, home_partition, arrivals, state, priority,
  ready_since, due_at)
SELECT UNHEX(MD5(seq)), CONV(LEFT(MD5(seq), 2), 16, 10), IF(seq % 10 = 0, 'staff', 'customers'), CONCAT('user-', seq),
  1, seq % 3, 4,
  CASE WHEN seq % 100 < 6 THEN 'READY' WHEN seq % 100 < 9 THEN 'WAITING' WHEN seq % 100 < 10 THEN 'HELD' ELSE 'IDLE' END,
  ELT(1 + seq % 4, 1, 3, 5, 10), NOW(6) - INTERVAL seq SECOND,
  IF(seq % 100 BETWEEN 6 AND 8, NOW(6) + INTERVAL (CAST(seq AS SIGNED) - 1000) SECOND, NULL)
FROM seq_1_to_40000;

-- The first 110,000 have ended, over two weeks; the others are open: 20,000 of one lane, 20,000 of the lanes with work.
INSERT INTO entries (lane_id, shard, topic_id, partition_no, log_offset, kind, schema_version, source, event_id,
  username, tenant, priority, event_time, data, state, ended_at)
SELECT UNHEX(MD5(lane)), CONV(LEFT(MD5(lane), 2), 16, 10), 1, seq % 3, seq, 'user_update', 1, '/tests', seq, 'somebody',
  IF(seq % 10 < 8, 'large', CONCAT('tenant-', seq % 997)), 5, NOW(6), '{}', state,
  IF(seq > 110000, NULL, NOW(6) - INTERVAL (110000 - seq) * 11 SECOND)
FROM (
  SELECT seq,
    CASE WHEN seq > 130000 THEN 1 WHEN seq > 110000 THEN (seq % 400) * 100 + FLOOR(seq / 400) % 10 ELSE 1 + seq % 40000 END AS lane,
    CASE WHEN seq > 110000 THEN IF(FLOOR(seq / 400) % 10 = 9 AND seq < 130001, 'HELD', 'PENDING')
      WHEN seq % 100 = 0 THEN 'DEAD_LETTER' WHEN seq % 333 = 0 THEN 'SUPERSEDED' ELSE 'DELIVERED' END AS state
  FROM seq_1_to_150000) made;

INSERT INTO attempts (entry_id, n, started_at, ended_at, outcome, reason, charged, instance)
SELECT entry_id, 1, NOW(6), NOW(6), 'DELIVERED', 'updated', IF(entry_id % 50 = 0, NULL, 0), 'first' FROM entries
WHERE is_open = 0;

-- Most users are known to exist. A hundred or so are in doubt, and wait to be healed.
INSERT INTO folds (lane_id, shard, user_exists, fields, suspect_since, suspect_kind)
SELECT lane_id, shard, IF(username_key LIKE '%9', NULL, 1), '{}', IF(home_partition = 0 AND username_key LIKE '%77', NOW(6) - INTERVAL 5 MINUTE, NULL), 'timeout'
FROM lanes;

INSERT INTO ledger (event_hash, topic_id, partition_no, log_offset, content_hash)
SELECT UNHEX(MD5(CONCAT('event-', seq))), 1, seq % 3, seq, UNHEX(MD5(seq)) FROM seq_1_to_150000;

INSERT INTO marks (topic_id, partition_no, log_offset, kind)
SELECT 1, seq % 3, seq, IF(seq % 20 = 0, 'poison', 'dead') FROM seq_1_to_20000;

INSERT INTO poison (topic_id, partition_no, log_offset, reason, detail, kid, sealed, received_at)
SELECT 1, seq % 3, seq, 'not_json', '', 'key', '', NOW(6) - INTERVAL seq * 3 MINUTE FROM seq_1_to_20000;

-- Some doubts were noted by others, most of them not due yet.
INSERT INTO doubts (lane_id, shard, kind, doubt, due_at)
SELECT lane_id, shard, 'fenced', '{}', NOW(6) - INTERVAL 1 MINUTE + INTERVAL CRC32(lane_id) % 3600 SECOND FROM lanes
WHERE CRC32(lane_id) % 20 = 0;

-- Twenty lanes wait behind a dead letter.
UPDATE folds f JOIN (SELECT lane_id, MIN(entry_id) AS entry_id FROM entries WHERE state = 'DEAD_LETTER'
  GROUP BY lane_id ORDER BY entry_id LIMIT 20) d ON d.lane_id = f.lane_id
SET f.held_by_entry = d.entry_id, f.held_reason = 'email_taken';

-- One in four keeps a password, for three weeks by now; forty could not be healed.
UPDATE folds SET credential = '{"kid":"2026-01","alg":"x","ciphertext":""}', credential_event_id = 'e',
  credential_at = NOW(6) - INTERVAL CRC32(lane_id) % 1800000 SECOND WHERE CRC32(lane_id) % 4 = 0;
UPDATE folds SET heal_refused = 'heal_refused_by_history' WHERE CRC32(lane_id) % 1000 = 7;

-- A week of commands: 20,000 answered, 200 a request; the last 6,000 are not, and one of them is about
-- the lane that is long.
INSERT INTO commands (request, lane_id, shard, action, entry_id, seen_state, seen_arrivals, actor, answer, answered_at)
SELECT UNHEX(MD5(FLOOR((seq - 1) / 200))), UNHEX(MD5(lane)), CONV(LEFT(MD5(lane), 2), 16, 10), 'release', 110000 + seq,
  'HELD', 4, 'somebody', IF(seq > 20000, NULL, 'DONE'), IF(seq > 20000, NULL, NOW(6) - INTERVAL (20000 - seq) * 33 SECOND)
FROM (SELECT seq, IF(seq = 20001, 1, seq) AS lane FROM seq_1_to_26000) asked;

-- Two days of deletions, a few hundred of them of the last hour.
INSERT INTO deletions (entry_id, realm, reserved_at, allowed_by)
SELECT seq, IF(seq % 5 = 0, 'staff', 'customers'), NOW(6) - INTERVAL (20000 - CAST(seq AS SIGNED)) * 10 SECOND,
  IF(seq % 7 = 0, 'somebody', NULL) FROM seq_1_to_20000;

UPDATE leases SET owner = 'first', token = 1, deadline = NOW(6) + INTERVAL 1 HOUR;

ANALYZE TABLE entries, lanes, folds, attempts, ledger, marks, poison, leases, commands,
  deletions;
