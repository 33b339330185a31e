-- Whoever looks after one tenant asks for its dead letters, newest first.
CREATE INDEX IF NOT EXISTS by_tenant ON entries (tenant, state, ended_at);
