-- Positions that no fold may take in.
CREATE TABLE IF NOT EXISTS marks (
  topic_id        SMALLINT UNSIGNED NOT NULL,
  partition_no    INT UNSIGNED      NOT NULL,
  log_offset      BIGINT UNSIGNED   NOT NULL,
  field           VARCHAR(255)      NOT NULL DEFAULT '' COMMENT 'one refused field, or empty: the whole event',
  kind            ENUM('dead', 'duplicate', 'poison', 'skipped', 'refused') NOT NULL,
  lane_id         BINARY(16)        NULL,
  first_partition INT UNSIGNED      NULL COMMENT 'of a duplicate: where the first one stands',
  first_offset    BIGINT UNSIGNED   NULL,
  marked_at       DATETIME(6)       NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  PRIMARY KEY (topic_id, partition_no, log_offset, field),
  KEY by_kind (kind, marked_at)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_nopad_bin;
