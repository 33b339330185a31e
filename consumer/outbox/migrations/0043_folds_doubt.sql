-- What calls in doubt may still leave, when it is looked for once more, and what somebody else has changed in Keycloak.
ALTER TABLE folds
  ADD COLUMN IF NOT EXISTS doubt MEDIUMBLOB NULL COMMENT 'JSON, what calls whose answers were lost may still leave',
  ADD COLUMN IF NOT EXISTS looks TINYINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'looks made since the doubt was healed',
  ADD COLUMN IF NOT EXISTS look_at DATETIME(6) NULL COMMENT 'when the next of them is due',
  ADD COLUMN IF NOT EXISTS drift MEDIUMBLOB NULL COMMENT 'JSON {field: what was found}: other hands changed these in Keycloak',
  ADD COLUMN IF NOT EXISTS drift_at DATETIME(6) NULL COMMENT 'when that was found',
  ADD KEY IF NOT EXISTS look (look_at, shard),
  ADD KEY IF NOT EXISTS drift (drift_at);
