-- The circuit towards one Keycloak, shared by all instances. Every transition compares and sets the generation.
CREATE TABLE IF NOT EXISTS circuits (
  keycloak        VARCHAR(255)    NOT NULL,
  generation      BIGINT UNSIGNED NOT NULL DEFAULT 0,
  state           ENUM('CLOSED', 'OPEN', 'HALF_OPEN') NOT NULL DEFAULT 'CLOSED',
  reason          VARCHAR(255)    NULL,
  failures        INT UNSIGNED    NOT NULL DEFAULT 0,
  openings        INT UNSIGNED    NOT NULL DEFAULT 0 COMMENT 'in a row, without a stable close between',
  opened_at       DATETIME(6)     NULL COMMENT 'when it last left CLOSED',
  retry_at        DATETIME(6)     NULL COMMENT 'when the next probe may begin',
  probe_owner     VARCHAR(128)    NULL,
  probe_deadline  DATETIME(6)     NULL,
  changed_at      DATETIME(6)     NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  last_success_at DATETIME(6)     NULL,
  last_check_at   DATETIME(6)     NULL,
  last_check_ok   TINYINT         NULL,
  PRIMARY KEY (keycloak)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_nopad_bin;
