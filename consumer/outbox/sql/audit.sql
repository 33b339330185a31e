-- name: record
-- What an operator did, or what was found that needs one.
INSERT INTO audit (actor, action, arguments, outcome)
VALUES (%(actor)s, %(action)s, %(arguments)s, %(outcome)s);
