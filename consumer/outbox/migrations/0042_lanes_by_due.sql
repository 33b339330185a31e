-- A lane that is put to sleep, or becomes ready, moves in one index and not in two (docs/decisions/0038).
ALTER TABLE lanes
  MODIFY COLUMN due_at DATETIME(6) NULL COMMENT 'when a waiting lane may go on; NULL for any other',
  DROP KEY IF EXISTS waiting,
  ADD KEY IF NOT EXISTS due (due_at, shard);
