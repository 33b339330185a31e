-- Per topic partition: the next offset to ingest, who may write it, and what the last record looked like.
CREATE TABLE IF NOT EXISTS watermarks (
  topic_id       SMALLINT UNSIGNED NOT NULL,
  partition_no   INT UNSIGNED      NOT NULL,
  kafka_group    VARCHAR(255)      NOT NULL,
  next_offset    BIGINT UNSIGNED   NOT NULL,
  writer_token   BIGINT UNSIGNED   NOT NULL DEFAULT 0,
  writer         VARCHAR(128)      NULL,
  last_offset    BIGINT UNSIGNED   NULL,
  last_timestamp BIGINT            NULL COMMENT 'milliseconds, as Kafka has it',
  last_hash      BINARY(16)        NULL,
  updated_at     DATETIME(6)       NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  PRIMARY KEY (topic_id, partition_no)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_nopad_bin;
