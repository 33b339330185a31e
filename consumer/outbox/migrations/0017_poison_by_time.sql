-- Poison goes after its retention, oldest first.
CREATE INDEX IF NOT EXISTS by_time ON poison (received_at);
