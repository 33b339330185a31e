-- Doubts of lanes that were noted by who does not own them: a process whose write-back was fenced, or an operator who wants
-- fields made equal to the fold. Added and never changed; the owner takes them in and removes them with its next heal.
CREATE TABLE IF NOT EXISTS doubts (
  doubt_id BIGINT UNSIGNED  NOT NULL AUTO_INCREMENT,
  lane_id  BINARY(16)       NOT NULL,
  shard    TINYINT UNSIGNED NOT NULL,
  kind     VARCHAR(32)      NOT NULL COMMENT 'fenced or asked',
  doubt    MEDIUMBLOB       NOT NULL COMMENT 'JSON',
  due_at   DATETIME(6)      NOT NULL,
  PRIMARY KEY (doubt_id),
  KEY lane (lane_id),
  KEY due (due_at, shard)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_nopad_bin;
