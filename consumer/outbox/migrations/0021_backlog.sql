-- What waits in the outbox, counted by one instance for all at a time. One row.
CREATE TABLE IF NOT EXISTS backlog (
  id          TINYINT UNSIGNED NOT NULL DEFAULT 1,
  due         BIGINT UNSIGNED  NOT NULL DEFAULT 0 COMMENT 'entries, not terminal, that can become due by themselves',
  blocked     BIGINT UNSIGNED  NOT NULL DEFAULT 0 COMMENT 'held entries, those behind them, and those of a realm at fault',
  is_full     TINYINT          NOT NULL DEFAULT 0 COMMENT '1 from the high water mark on, until due has fallen to the low one',
  counted_at  DATETIME(6)      NULL,
  count_again DATETIME(6)      NOT NULL DEFAULT '1970-01-01 00:00:00' COMMENT 'whoever comes first then counts',
  PRIMARY KEY (id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_nopad_bin;
