-- A lane's durable sum of what was applied, written only by its shard's owner in the fenced write-back.
-- fields: {name: [value, topic_id, partition, offset]}; "attributes.<name>" is one field an attribute.
CREATE TABLE IF NOT EXISTS folds (
  lane_id              BINARY(16)        NOT NULL,
  shard                TINYINT UNSIGNED  NOT NULL,
  user_exists          TINYINT           NULL COMMENT '1, 0 or NULL: unknown',
  exists_topic_id      SMALLINT UNSIGNED NULL,
  exists_partition     INT UNSIGNED      NULL,
  exists_offset        BIGINT UNSIGNED   NULL,
  fields               MEDIUMBLOB        NOT NULL,
  user_id              VARCHAR(36)       NULL COMMENT 'the id Keycloak gave the user',
  credential           VARBINARY(8192)   NULL COMMENT 'JSON, the last sealed password, as retention allows',
  credential_event_id  VARCHAR(255)      NULL COMMENT 'what the sealed password is bound to',
  credential_topic_id  SMALLINT UNSIGNED NULL,
  credential_partition INT UNSIGNED      NULL,
  credential_offset    BIGINT UNSIGNED   NULL,
  credential_date      DATETIME(3)       NULL COMMENT 'by the clock of Keycloak',
  suspect_since        DATETIME(6)       NULL,
  suspect_kind         VARCHAR(32)       NULL,
  updated_at           DATETIME(6)       NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
  PRIMARY KEY (lane_id),
  KEY suspect (suspect_since, shard)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_nopad_bin;
