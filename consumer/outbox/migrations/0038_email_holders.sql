-- Whose e-mail address an entry asks for: for people, and for telling two users who wait for each other.
ALTER TABLE entries
  ADD COLUMN IF NOT EXISTS email_holder VARCHAR(255) NULL
    COMMENT 'username of who has the e-mail address asked for, while state_reason is email_in_use';
