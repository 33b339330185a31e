-- name: read
-- What is stopped now.
SELECT realm, actor, reason, since FROM maintenance ORDER BY realm;

-- name: begin
-- Stop deliveries; who did it first stays recorded.
INSERT INTO maintenance (realm, actor, reason) VALUES (%(realm)s, %(actor)s, %(reason)s)
ON DUPLICATE KEY UPDATE reason = COALESCE(VALUES(reason), reason);

-- name: end
-- Let deliveries go on.
DELETE FROM maintenance WHERE realm = %(realm)s;

-- name: rouse
-- Let the scheduler look at the waiting lanes of a realm again. Index: due, or user where that reads less.
UPDATE lanes SET due_at = NOW(6) WHERE realm = %(realm)s AND due_at > NOW(6) AND state = 'WAITING';

-- name: record
-- Who did it.
INSERT INTO audit (actor, action, arguments, outcome) VALUES (%(actor)s, %(action)s, %(arguments)s, 'DONE');
