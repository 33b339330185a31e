-- Poison of which nothing but the mark is kept still has a reason.
ALTER TABLE marks ADD COLUMN IF NOT EXISTS reason VARCHAR(64) NULL COMMENT 'of poison; NULL: in the poison table';
