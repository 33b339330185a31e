-- name: kid_of_credential
-- The key that a credential is sealed to: of a password, or of a hash with its parameters beside it.
COALESCE(JSON_VALUE(CONVERT(credential USING utf8mb4), '$.kid'), JSON_VALUE(CONVERT(credential USING utf8mb4), '$.sealed.kid'));

-- name: entries_by_key
-- Passwords of entries that are not delivered, by key and state. Index: by_state.
SELECT {kid_of_credential} AS kid, state, COUNT(*) AS n FROM entries FORCE INDEX (by_state)
WHERE state IN ('PENDING', 'HELD', 'DEAD_LETTER') AND credential IS NOT NULL GROUP BY kid, state;

-- name: unread_by_key
-- Held events of unknown kinds, which are sealed whole to a key of ours. Index: by_state.
SELECT JSON_VALUE(CONVERT(data USING utf8mb4), '$.kid') AS kid, COUNT(*) AS n FROM entries FORCE INDEX (by_state)
WHERE state = 'HELD' AND state_reason IN ('kind_unregistered', 'schema_newer') GROUP BY kid;

-- name: folds_by_key
-- Last passwords that are kept. Index: kept.
SELECT {kid_of_credential} AS kid, COUNT(*) AS n FROM folds FORCE INDEX (kept)
WHERE credential_at IS NOT NULL AND credential IS NOT NULL GROUP BY kid;

-- name: poison_by_key
-- Records that are no event, sealed whole to a key of ours.
SELECT kid, COUNT(*) AS n FROM poison GROUP BY kid;
