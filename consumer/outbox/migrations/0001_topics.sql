-- A Kafka topic of one cluster. Positions name it by its small id; a recreated topic is a new incarnation.
CREATE TABLE IF NOT EXISTS topics (
  topic_id    SMALLINT UNSIGNED NOT NULL AUTO_INCREMENT,
  cluster     VARCHAR(64)       NOT NULL,
  name        VARCHAR(249)      NOT NULL,
  incarnation INT UNSIGNED      NOT NULL DEFAULT 1,
  first_seen  DATETIME(6)       NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  PRIMARY KEY (topic_id),
  UNIQUE KEY topic (cluster, name, incarnation)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_nopad_bin;
