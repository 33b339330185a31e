-- While a circuit is open, one instance asks whether Keycloak is there (docs/decisions/0057).
ALTER TABLE circuits
  ADD COLUMN IF NOT EXISTS rest_until DATETIME(6) NULL COMMENT 'Keycloak asked not to be asked before' AFTER retry_at,
  ADD COLUMN IF NOT EXISTS asker VARCHAR(128) NULL COMMENT 'who asks whether it is there' AFTER rest_until,
  ADD COLUMN IF NOT EXISTS asker_deadline DATETIME(6) NULL AFTER asker,
  ADD COLUMN IF NOT EXISTS asked_at DATETIME(6) NULL AFTER asker_deadline,
  ADD COLUMN IF NOT EXISTS met VARCHAR(16) NULL COMMENT 'what the last question met: THERE, UNCLEAR or AWAY' AFTER asked_at,
  ADD COLUMN IF NOT EXISTS said VARCHAR(255) NULL COMMENT 'the same for people' AFTER met,
  ADD COLUMN IF NOT EXISTS back_at DATETIME(6) NULL COMMENT 'when it was there again after it was away' AFTER said,
  ADD COLUMN IF NOT EXISTS news_tries INT UNSIGNED NOT NULL DEFAULT 0
    COMMENT 'control calls that such news has cost since a delivery last succeeded' AFTER back_at,
  ADD COLUMN IF NOT EXISTS wanted_at DATETIME(6) NULL COMMENT 'when somebody wanted to know at once' AFTER news_tries;
