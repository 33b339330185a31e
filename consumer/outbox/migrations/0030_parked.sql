-- Lanes that wait because as many calls of their head's kind as may be are under way (docs/decisions/0022). A hint: its
-- lane is WAITING, and wakes by itself if this row is lost.
CREATE TABLE IF NOT EXISTS parked (
  lane_id   BINARY(16)       NOT NULL,
  shard     TINYINT UNSIGNED NOT NULL,
  kind      VARCHAR(64)      NOT NULL,
  urgent_at DATETIME(6)      NOT NULL COMMENT 'as the lane''s',
  PRIMARY KEY (lane_id),
  KEY next (kind, urgent_at, shard)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_nopad_bin;
