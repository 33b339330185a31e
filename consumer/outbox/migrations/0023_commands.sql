-- What operators and housekeeping ask of the owner of a shard, who does it between two calls of the lane and answers.
CREATE TABLE IF NOT EXISTS commands (
  command_id    BIGINT UNSIGNED  NOT NULL AUTO_INCREMENT,
  request       BINARY(16)       NOT NULL COMMENT 'commands that were asked for together',
  lane_id       BINARY(16)       NOT NULL,
  shard         TINYINT UNSIGNED NOT NULL,
  action        VARCHAR(32)      NOT NULL,
  entry_id      BIGINT UNSIGNED  NOT NULL COMMENT 'what it is about',
  seen_state    VARCHAR(16)      NOT NULL COMMENT 'of the entry, when it was asked for',
  seen_arrivals BIGINT UNSIGNED  NOT NULL COMMENT 'the tail of the lane, when it was asked for',
  actor         VARCHAR(255)     NOT NULL,
  why           VARCHAR(255)     NULL,
  asked_at      DATETIME(6)      NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  expires_at    DATETIME(6)      NOT NULL DEFAULT (CURRENT_TIMESTAMP(6) + INTERVAL 1 HOUR),
  answer        ENUM('DONE', 'REFUSED', 'EXPIRED') NULL,
  detail        VARCHAR(255)     NULL,
  answered_at   DATETIME(6)      NULL,
  answered_by   VARCHAR(128)     NULL,
  PRIMARY KEY (command_id),
  KEY waiting (answer, lane_id),
  KEY request (request, answer),
  KEY answered (answered_at)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_nopad_bin;
