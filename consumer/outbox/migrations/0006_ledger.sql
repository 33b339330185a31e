-- Which event ids were seen, and where first. Hashes keep it narrow; it outlives the entries.
CREATE TABLE IF NOT EXISTS ledger (
  event_hash   BINARY(16)        NOT NULL COMMENT 'of source and id',
  topic_id     SMALLINT UNSIGNED NOT NULL,
  partition_no INT UNSIGNED      NOT NULL,
  log_offset   BIGINT UNSIGNED   NOT NULL,
  content_hash BINARY(16)        NOT NULL COMMENT 'of the event without ciphertext and trace context',
  first_seen   DATETIME(6)       NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  PRIMARY KEY (event_hash)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_nopad_bin;
