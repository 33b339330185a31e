-- Deletes that the guard has let through, reserved before the call; `allowed_by` an operator: not counted.
CREATE TABLE IF NOT EXISTS deletions (
  entry_id    BIGINT UNSIGNED NOT NULL,
  realm       VARCHAR(255)    NOT NULL,
  reserved_at DATETIME(6)     NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  allowed_by  VARCHAR(255)    NULL,
  PRIMARY KEY (entry_id),
  KEY recent (realm, reserved_at)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_nopad_bin;
