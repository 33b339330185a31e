-- Who cleans up now, until when unless it says more, and when somebody last got to the end.
CREATE TABLE IF NOT EXISTS housekeeping (
  chore       VARCHAR(32)  NOT NULL,
  owner       VARCHAR(128) NULL,
  deadline    DATETIME(6)  NOT NULL DEFAULT '1970-01-01 00:00:00',
  finished_at DATETIME(6)  NULL,
  PRIMARY KEY (chore)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_nopad_bin;
