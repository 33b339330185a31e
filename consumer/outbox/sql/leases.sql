-- name: announce
-- This instance is alive until the deadline passes; so many calls does it make at once, if any.
INSERT INTO instances (instance, roles, version, deadline,
  call_limit, call_ceiling, calls_per_second, limit_why, limit_changed_at)
VALUES (%(instance)s, %(roles)s, %(version)s, NOW(6) + INTERVAL %(seconds)s SECOND,
  %(call_limit)s, %(call_ceiling)s, %(calls_per_second)s, %(limit_why)s, NOW(6) - INTERVAL %(limit_changed_ago)s SECOND)
ON DUPLICATE KEY UPDATE deadline = VALUES(deadline), call_limit = VALUES(call_limit),
  call_ceiling = VALUES(call_ceiling), calls_per_second = VALUES(calls_per_second),
  limit_why = VALUES(limit_why), limit_changed_at = VALUES(limit_changed_at);

-- name: alive
-- Instances that drain and whose deadline has not passed.
SELECT instance FROM instances WHERE deadline > NOW(6) AND FIND_IN_SET('drain', roles) ORDER BY instance;

-- name: instances
-- All processes whose deadline has not passed, with what they do.
SELECT instance, roles, call_limit, call_ceiling, calls_per_second, limit_why, limit_changed_at FROM instances
WHERE deadline > NOW(6) ORDER BY instance;

-- name: forget_instance
-- This instance has stopped.
DELETE FROM instances WHERE instance = %(instance)s;

-- name: forget_dead_instances
-- Instances that have been silent for a day.
DELETE FROM instances WHERE deadline < NOW(6) - INTERVAL 1 DAY;

-- name: renew
-- Keep the shards we own. The deadline always changes, so the count of rows is the count of shards.
UPDATE leases SET deadline = NOW(6) + INTERVAL %(seconds)s SECOND WHERE owner = %(owner)s AND deadline > NOW(6);

-- name: owned
-- The shards we own, with their tokens.
SELECT shard, token FROM leases WHERE owner = %(owner)s AND deadline > NOW(6);

-- name: free
-- Shards that nobody owns now.
SELECT shard FROM leases WHERE owner IS NULL OR deadline <= NOW(6) ORDER BY shard;

-- name: acquire
-- Take free shards: a new token fences every older owner.
UPDATE leases SET owner = %(owner)s, token = token + 1, deadline = NOW(6) + INTERVAL %(seconds)s SECOND
WHERE shard IN %(shards)s AND (owner IS NULL OR deadline <= NOW(6));

-- name: release
-- Give shards back.
UPDATE leases SET owner = NULL, deadline = NOW(6) WHERE owner = %(owner)s AND shard IN %(shards)s;

-- name: lock_tokens
-- The tokens of those of these shards that are ours, locked against a take-over until the write-back has committed.
SELECT JSON_OBJECTAGG(shard, token) AS tokens FROM leases WHERE shard IN %(shards)s AND owner = %(owner)s
LOCK IN SHARE MODE;

-- name: lock_claimable
-- The same of those whose lease does not end soon, and the time.
SELECT JSON_OBJECTAGG(shard, token) AS tokens, NOW(6) AS locked_at FROM leases
WHERE shard IN %(shards)s AND owner = %(owner)s AND deadline > NOW(6) + INTERVAL %(margin)s SECOND
LOCK IN SHARE MODE;

-- name: owners
-- Shards per owner and when the first of them ends, for the status screen.
SELECT owner, COUNT(*) AS shards, MIN(deadline) AS until FROM leases WHERE owner IS NOT NULL AND deadline > NOW(6) GROUP BY owner;
