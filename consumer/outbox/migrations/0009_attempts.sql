-- Every recorded call of an entry.
CREATE TABLE IF NOT EXISTS attempts (
  entry_id    BIGINT UNSIGNED   NOT NULL,
  n           INT UNSIGNED      NOT NULL,
  started_at  DATETIME(6)       NOT NULL,
  ended_at    DATETIME(6)       NOT NULL,
  outcome     ENUM('DELIVERED', 'RETRY', 'DEFER', 'DEAD_LETTER') NOT NULL,
  reason      VARCHAR(64)       NOT NULL,
  http_status SMALLINT UNSIGNED NULL,
  charged     TINYINT           NULL COMMENT '1, 0 or NULL: not judged yet',
  trace_id    BINARY(16)        NULL,
  instance    VARCHAR(128)      NOT NULL,
  error       VARCHAR(2048)     NULL COMMENT 'redacted',
  PRIMARY KEY (entry_id, n)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_nopad_bin;
