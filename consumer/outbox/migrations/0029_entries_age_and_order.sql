-- How long an entry has been tried (docs/decisions/0021); and a lane's index that also knows its entries' priorities.
ALTER TABLE entries
  ADD COLUMN IF NOT EXISTS eligible_us BIGINT UNSIGNED NOT NULL DEFAULT 0
    COMMENT 'microseconds as the head of its lane while Keycloak could be asked, counted from its first call',
  DROP KEY IF EXISTS lane,
  ADD KEY lane (lane_id, is_open, entry_id, priority);
