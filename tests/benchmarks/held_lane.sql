INSERT INTO lanes (lane_id, shard, realm, username_key, home_topic_id, home_partition, arrivals, priority)
VALUES (UNHEX(MD5('held')), CONV(LEFT(MD5('held'), 2), 16, 10), 'tests', 'held', 1, 0, %(entries)s, 1);
INSERT INTO entries (lane_id, shard, topic_id, partition_no, log_offset, kind, schema_version, source, event_id,
  username, priority, event_time, data, state)
SELECT UNHEX(MD5('held')), CONV(LEFT(MD5('held'), 2), 16, 10), 1, 0, seq, 'user_update', 1, '/bench',
  CONCAT('h-', seq), 'held', 1, NOW(6), '{"enabled":true}', IF(seq = 1, 'HELD', 'PENDING')
FROM seq_1_to_%(entries)s;
