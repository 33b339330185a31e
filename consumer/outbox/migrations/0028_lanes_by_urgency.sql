-- Which lane goes next (docs/decisions/0020): each step of priority is worth ten minutes of waiting.
ALTER TABLE lanes
  ADD COLUMN IF NOT EXISTS urgent_at DATETIME(6) AS (ready_since + INTERVAL priority * 600 SECOND) PERSISTENT
    COMMENT 'the lane with the earliest goes next',
  ADD KEY IF NOT EXISTS urgent (state, urgent_at, shard),
  DROP KEY IF EXISTS ready;
