-- What operators did, and what was found that needs an operator.
CREATE TABLE IF NOT EXISTS audit (
  audit_id  BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
  at        DATETIME(6)     NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  actor     VARCHAR(255)    NOT NULL,
  action    VARCHAR(64)     NOT NULL,
  arguments TEXT            NOT NULL COMMENT 'JSON',
  outcome   VARCHAR(255)    NOT NULL,
  PRIMARY KEY (audit_id),
  KEY by_time (at)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_nopad_bin;
