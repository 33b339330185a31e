-- Why a partition is not read, as its writer last noted it: for people, and decided in the writer's memory.
ALTER TABLE watermarks
  ADD COLUMN IF NOT EXISTS paused_for VARCHAR(64) NULL COMMENT 'reasons, separated by commas; NULL: it flows',
  ADD COLUMN IF NOT EXISTS yields TINYINT NOT NULL DEFAULT 0 COMMENT 'it flows in spite of them, before Kafka removes unread records';
