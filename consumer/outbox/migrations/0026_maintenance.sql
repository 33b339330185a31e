-- Deliveries that an operator has stopped on purpose: of one realm, or of all (the realm is empty).
CREATE TABLE IF NOT EXISTS maintenance (
  realm  VARCHAR(255) NOT NULL,
  actor  VARCHAR(255) NOT NULL,
  reason VARCHAR(255) NULL,
  since  DATETIME(6)  NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  PRIMARY KEY (realm)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_nopad_bin;
