-- A dead letter may hold its lane: nothing behind it is called before an operator ends the hold.
ALTER TABLE folds
  ADD COLUMN IF NOT EXISTS held_by_entry BIGINT UNSIGNED NULL COMMENT 'the dead letter that holds the lane',
  ADD COLUMN IF NOT EXISTS held_reason   VARCHAR(64)     NULL COMMENT 'why that entry died',
  ADD INDEX IF NOT EXISTS held (held_by_entry);
