-- Who owns a shard, with which fencing token, until when by this database's clock.
CREATE TABLE IF NOT EXISTS leases (
  shard    TINYINT UNSIGNED NOT NULL,
  owner    VARCHAR(128)     NULL,
  token    BIGINT UNSIGNED  NOT NULL DEFAULT 0,
  deadline DATETIME(6)      NOT NULL DEFAULT '1970-01-01 00:00:00',
  PRIMARY KEY (shard)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_nopad_bin;
