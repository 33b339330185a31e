-- Since when a fold has kept its last password, so that it can be forgotten in time; and whether Keycloak has refused to be
-- healed by it.
ALTER TABLE folds
  ADD COLUMN IF NOT EXISTS credential_at DATETIME(6) NULL COMMENT 'when the sealed password was delivered; NULL: none is kept'
    AFTER credential_offset,
  ADD COLUMN IF NOT EXISTS heal_refused VARCHAR(64) NULL COMMENT 'why Keycloak refused the last heal',
  ADD KEY IF NOT EXISTS kept (credential_at),
  ADD KEY IF NOT EXISTS heal_refused (heal_refused);
