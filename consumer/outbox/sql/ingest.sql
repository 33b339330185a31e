-- name: topic_id
-- The id of a topic, newly given if it was never seen. Follow with LAST_INSERT_ID.
INSERT INTO topics (cluster, name) VALUES (%(cluster)s, %(name)s)
ON DUPLICATE KEY UPDATE topic_id = LAST_INSERT_ID(topic_id);

-- name: read_watermark
-- The watermark of one partition, locked until the transaction ends.
SELECT next_offset, writer_token, kafka_group, last_offset, last_timestamp, last_hash
FROM watermarks WHERE topic_id = %(topic_id)s AND partition_no = %(partition)s FOR UPDATE;

-- name: take_partition
-- Make this process the partition's writer: every older token is fenced from now on.
UPDATE watermarks
SET writer_token = writer_token + 1, writer = %(writer)s, next_offset = %(next_offset)s, paused_for = NULL, yields = 0,
  updated_at = NOW(6)
WHERE topic_id = %(topic_id)s AND partition_no = %(partition)s;

-- name: begin_partition
-- The first watermark of a partition.
INSERT INTO watermarks (topic_id, partition_no, kafka_group, next_offset, writer_token, writer)
VALUES (%(topic_id)s, %(partition)s, %(group)s, %(next_offset)s, 1, %(writer)s);

-- name: note_pause
-- Why partitions are not read, as far as they are still this writer's.
UPDATE watermarks SET paused_for = %(paused_for)s, yields = %(yields)s
WHERE topic_id = %(topic_id)s AND partition_no IN %(partitions)s AND writer = %(writer)s;

-- name: note_logs
-- What Kafka holds of partitions, as far as they are still this writer's.
-- The start may go back, to what a newer writer sees: that only keeps more.
UPDATE JSON_TABLE(%(rows)s, '$[*]' COLUMNS (
    partition_no INT UNSIGNED PATH '$.partition', token BIGINT UNSIGNED PATH '$.token',
    log_start BIGINT UNSIGNED PATH '$.start', log_end BIGINT UNSIGNED PATH '$.end')) j
STRAIGHT_JOIN watermarks w ON w.topic_id = %(topic_id)s AND w.partition_no = j.partition_no
SET w.log_start = j.log_start, w.log_end = j.log_end, w.log_seen_at = NOW(6)
WHERE w.writer_token = j.token;

-- name: lock_watermarks
-- The watermarks that a batch moves, locked in key order.
SELECT partition_no, next_offset, writer_token FROM watermarks
WHERE topic_id = %(topic_id)s AND partition_no IN %(partitions)s ORDER BY partition_no FOR UPDATE;

-- name: move_watermarks
-- Move the watermarks past a batch. The rows exist and are locked.
INSERT INTO watermarks (topic_id, partition_no, kafka_group, next_offset, last_offset, last_timestamp, last_hash)
VALUES (%s, %s, %s, %s, %s, %s, %s)
ON DUPLICATE KEY UPDATE next_offset = VALUES(next_offset), last_offset = VALUES(last_offset),
  last_timestamp = VALUES(last_timestamp), last_hash = VALUES(last_hash), updated_at = NOW(6);

-- name: seen_events
-- Which of these events the ledger knows.
SELECT event_hash, topic_id, partition_no, log_offset, content_hash FROM ledger WHERE event_hash IN %(hashes)s;

-- name: insert_ledger
-- Remember events. A duplicate key says that one was seen before, here or by another writer.
INSERT INTO ledger (event_hash, topic_id, partition_no, log_offset, content_hash) VALUES (%s, %s, %s, %s, %s);

-- name: upsert_lanes
-- Announce new entries on their lanes, in key order. An idle lane becomes ready; a waiting or held one stays so.
INSERT INTO lanes (lane_id, shard, realm, username_key, home_topic_id, home_partition, arrivals, priority)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
ON DUPLICATE KEY UPDATE
  strays = strays + IF(home_topic_id = VALUES(home_topic_id) AND home_partition = VALUES(home_partition),
                       0, VALUES(arrivals)),
  priority = IF(state = 'IDLE', VALUES(priority), LEAST(priority, VALUES(priority))),
  ready_since = IF(state = 'IDLE', NOW(6), ready_since),
  arrivals = arrivals + VALUES(arrivals),
  state = IF(state = 'IDLE', 'READY', state);

-- name: insert_entries
-- New entries, in the order of their lanes.
INSERT INTO entries (lane_id, shard, topic_id, partition_no, log_offset, kind, schema_version, source, event_id, username, tenant,
  priority, event_time, traceparent, tracestate, data, credential, state, state_reason)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s);

-- name: insert_marks
-- Positions that no fold may take in.
INSERT INTO marks (topic_id, partition_no, log_offset, kind, lane_id, first_partition, first_offset, reason)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s);

-- name: poison_kept
-- How much poison was kept in the last hour. Index: by_time; as many rows as may be kept in an hour.
SELECT COUNT(*) AS records, COALESCE(SUM(LEAST(value_length, %(most)s)), 0) AS size FROM poison FORCE INDEX (by_time)
WHERE received_at > NOW(6) - INTERVAL 1 HOUR;

-- name: insert_poison
-- Records that are no event.
INSERT INTO poison (topic_id, partition_no, log_offset, reason, detail, lane_id, record_key, record_timestamp,
  value_length, value_sha256, kid, sealed)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s);
