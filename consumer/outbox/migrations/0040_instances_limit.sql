-- How many calls an instance makes at once, and why no more: for people, written when it renews its leases.
ALTER TABLE instances
  ADD COLUMN IF NOT EXISTS call_limit SMALLINT UNSIGNED NULL COMMENT 'at once, at most; NULL: it makes none',
  ADD COLUMN IF NOT EXISTS call_ceiling SMALLINT UNSIGNED NULL COMMENT 'what the limit never exceeds',
  ADD COLUMN IF NOT EXISTS calls_per_second DOUBLE NULL COMMENT 'its share of the cap; NULL: there is none',
  ADD COLUMN IF NOT EXISTS limit_why VARCHAR(128) NULL COMMENT 'why the limit last changed',
  ADD COLUMN IF NOT EXISTS limit_changed_at DATETIME(6) NULL COMMENT 'when; NULL: not since the start';
