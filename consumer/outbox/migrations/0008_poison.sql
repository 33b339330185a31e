-- Records that are no event: kept whole, sealed to our own key, with where they stand and why they were refused.
CREATE TABLE IF NOT EXISTS poison (
  topic_id         SMALLINT UNSIGNED NOT NULL,
  partition_no     INT UNSIGNED      NOT NULL,
  log_offset       BIGINT UNSIGNED   NOT NULL,
  reason           VARCHAR(64)       NOT NULL,
  detail           VARCHAR(1024)     NOT NULL,
  lane_id          BINARY(16)        NULL COMMENT 'the lane that the record key names, where it names one',
  record_key       VARBINARY(1024)   NULL,
  record_timestamp BIGINT            NULL,
  kid              VARCHAR(64)       NOT NULL,
  sealed           LONGBLOB          NOT NULL,
  received_at      DATETIME(6)       NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  PRIMARY KEY (topic_id, partition_no, log_offset),
  KEY by_lane (lane_id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_nopad_bin;
