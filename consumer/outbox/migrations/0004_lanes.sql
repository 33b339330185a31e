-- The ordered queue of one user. Entries are the truth: state, priority and times here are hints for the scheduler,
-- written by ingest (arrivals) and by the shard's owner, and reconciled by a sweep.
CREATE TABLE IF NOT EXISTS lanes (
  lane_id        BINARY(16)        NOT NULL,
  shard          TINYINT UNSIGNED  NOT NULL,
  realm          VARCHAR(255)      NOT NULL,
  username_key   VARCHAR(255)      NOT NULL,
  home_topic_id  SMALLINT UNSIGNED NOT NULL,
  home_partition INT UNSIGNED      NOT NULL,
  arrivals       BIGINT UNSIGNED   NOT NULL DEFAULT 0 COMMENT 'entries ever ingested: the tail',
  strays         INT UNSIGNED      NOT NULL DEFAULT 0 COMMENT 'entries that came from another partition than home',
  state          ENUM('IDLE', 'READY', 'WAITING', 'HELD') NOT NULL DEFAULT 'READY',
  priority       TINYINT UNSIGNED  NOT NULL,
  ready_since    DATETIME(6)       NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  due_at         DATETIME(6)       NULL COMMENT 'when a waiting lane may go on',
  PRIMARY KEY (lane_id),
  KEY user (realm, username_key),
  KEY ready (state, priority, ready_since, shard),
  KEY waiting (state, due_at, shard)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_nopad_bin;
