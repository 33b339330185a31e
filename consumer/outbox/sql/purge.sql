-- name: expired
-- The next entries of a state whose retention has passed. Index: by_state.
SELECT entry_id FROM entries
WHERE state = %(state)s AND ended_at < NOW(6) - INTERVAL %(seconds)s SECOND ORDER BY ended_at LIMIT %(limit)s;

-- name: count_expired
-- How many there are, for a dry run. Index: by_state.
SELECT COUNT(*) AS n FROM entries WHERE state = %(state)s AND ended_at < NOW(6) - INTERVAL %(seconds)s SECOND;

-- name: delete_attempts
-- The calls of entries that go.
DELETE FROM attempts WHERE entry_id IN %(entries)s;

-- name: delete_entries
-- Terminal entries, by primary key. Ledger and marks stay: they are what makes a replay safe.
DELETE FROM entries WHERE entry_id IN %(entries)s AND state = %(state)s;
