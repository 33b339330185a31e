-- Of a record that is no event the beginning is kept, and what identifies the whole.
ALTER TABLE poison
  ADD COLUMN IF NOT EXISTS value_length INT UNSIGNED NULL COMMENT 'bytes of the whole value; NULL: kept whole, by an older version',
  ADD COLUMN IF NOT EXISTS value_sha256 BINARY(32) NULL COMMENT 'of the whole value';
