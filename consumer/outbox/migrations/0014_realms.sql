-- A realm whose configuration is at fault: its lanes are deferred until its control call succeeds again.
CREATE TABLE IF NOT EXISTS realms (
  realm        VARCHAR(255)  NOT NULL,
  fault        VARCHAR(64)   NULL,
  fault_detail VARCHAR(2048) NULL,
  fault_since  DATETIME(6)   NULL,
  PRIMARY KEY (realm)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_nopad_bin;
