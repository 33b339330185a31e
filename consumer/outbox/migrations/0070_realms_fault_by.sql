-- Which process found a realm at fault: while it lives, its settings may be what is wrong, and nobody else takes that back.
ALTER TABLE realms
  ADD COLUMN IF NOT EXISTS fault_by VARCHAR(128) NULL COMMENT 'instance that found it; NULL: an older version';
