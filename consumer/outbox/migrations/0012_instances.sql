-- Processes that drain: shards are shared fairly among those whose deadline has not passed.
CREATE TABLE IF NOT EXISTS instances (
  instance   VARCHAR(128) NOT NULL,
  roles      VARCHAR(64)  NOT NULL,
  version    VARCHAR(32)  NOT NULL,
  started_at DATETIME(6)  NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  deadline   DATETIME(6)  NOT NULL,
  PRIMARY KEY (instance)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_nopad_bin;
