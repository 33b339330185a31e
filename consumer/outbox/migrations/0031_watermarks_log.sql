-- What Kafka held of a partition when its writer last looked: what stands before its start can never be read again.
ALTER TABLE watermarks
  ADD COLUMN IF NOT EXISTS log_start BIGINT UNSIGNED NULL COMMENT 'the first record there was; NULL: nobody has looked yet',
  ADD COLUMN IF NOT EXISTS log_end BIGINT UNSIGNED NULL COMMENT 'where the next record would have been written',
  ADD COLUMN IF NOT EXISTS log_seen_at DATETIME(6) NULL;
