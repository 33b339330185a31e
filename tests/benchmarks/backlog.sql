INSERT INTO lanes (lane_id, shard, realm, username_key, home_topic_id, home_partition, arrivals, priority)
SELECT UNHEX(MD5(seq)), CONV(LEFT(MD5(seq), 2), 16, 10), 'tests', CONCAT('user-', seq), 1, 0, 1, 5
FROM seq_1_to_%(entries)s;
INSERT INTO entries (lane_id, shard, topic_id, partition_no, log_offset, kind, schema_version, source, event_id,
  username, priority, event_time, data)
SELECT UNHEX(MD5(seq)), CONV(LEFT(MD5(seq), 2), 16, 10), 1, 0, seq, 'user_update', 1, '/bench', CONCAT('e-', seq),
  CONCAT('user-', seq), 5, NOW(6), '{"enabled":true}'
FROM seq_1_to_%(entries)s;
