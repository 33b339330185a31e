-- The 256 shards are fixed for ever: a lane's shard is the first byte of its id.
INSERT INTO leases (shard) SELECT seq FROM seq_0_to_255 ON DUPLICATE KEY UPDATE shard = VALUES(shard);
