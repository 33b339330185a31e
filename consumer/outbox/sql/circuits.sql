-- name: ensure
-- The row of one Keycloak.
INSERT INTO circuits (keycloak) VALUES (%(keycloak)s) ON DUPLICATE KEY UPDATE keycloak = VALUES(keycloak);

-- name: read
-- The circuit, its times as seconds from now by this database's clock.
SELECT generation, state, reason, failures, openings,
  TIMESTAMPDIFF(MICROSECOND, NOW(6), retry_at) / 1e6 AS retry_in,
  probe_owner, TIMESTAMPDIFF(MICROSECOND, NOW(6), probe_deadline) / 1e6 AS probe_ends_in,
  TIMESTAMPDIFF(MICROSECOND, last_check_at, NOW(6)) / 1e6 AS checked_ago,
  TIMESTAMPDIFF(MICROSECOND, changed_at, NOW(6)) / 1e6 AS changed_ago,
  TIMESTAMPDIFF(MICROSECOND, NOW(6), rest_until) / 1e6 AS rest_in,
  asker, TIMESTAMPDIFF(MICROSECOND, NOW(6), asker_deadline) / 1e6 AS asker_ends_in,
  TIMESTAMPDIFF(MICROSECOND, asked_at, NOW(6)) / 1e6 AS asked_ago, met, said,
  TIMESTAMPDIFF(MICROSECOND, back_at, NOW(6)) / 1e6 AS back_ago, news_tries, wanted_at IS NOT NULL AS wanted,
  opened_at, last_success_at, last_check_at, last_check_ok
FROM circuits WHERE keycloak = %(keycloak)s;

-- name: change
-- A transition: only from the generation that was read.
-- What the questions met is forgotten where it closes, where it opens from there, and where the transition itself met something.
UPDATE circuits SET generation = generation + 1,
  back_at = IF(%(state)s = 'CLOSED' OR state = 'CLOSED' OR %(met)s IS NOT NULL, NULL, back_at),
  met = IF(%(state)s = 'CLOSED' OR state = 'CLOSED' OR %(met)s IS NOT NULL, %(met)s, met),
  asked_at = IF(%(state)s = 'CLOSED' OR state = 'CLOSED', NULL, asked_at),
  said = IF(%(state)s = 'CLOSED' OR state = 'CLOSED', NULL, said),
  rest_until = NOW(6) + INTERVAL %(rest_in_us)s MICROSECOND, wanted_at = NULL, news_tries = %(news_tries)s,
  state = %(state)s, reason = %(reason)s, failures = %(failures)s,
  openings = %(openings)s,
  opened_at = IF(%(state)s = 'OPEN' AND opened_at IS NULL, NOW(6), IF(%(state)s = 'CLOSED', NULL, opened_at)),
  retry_at = NOW(6) + INTERVAL %(retry_in_us)s MICROSECOND,
  probe_owner = %(probe_owner)s, probe_deadline = NOW(6) + INTERVAL %(probe_in_us)s MICROSECOND, changed_at = NOW(6)
WHERE keycloak = %(keycloak)s AND generation = %(generation)s;

-- name: take_questions
-- Be the one who asks whether Keycloak is there, unless another asks.
UPDATE circuits SET asker = %(asker)s, asker_deadline = NOW(6) + INTERVAL %(asker_in_us)s MICROSECOND
WHERE keycloak = %(keycloak)s AND generation = %(generation)s AND state = 'OPEN'
  AND (asker = %(asker)s OR asker_deadline <= NOW(6) OR asker_deadline IS NULL);

-- name: note_sighting
-- What a question met, by the one who asks; it goes on being theirs to ask.
-- That Keycloak is there is news where the last question met something else, or nobody was there at the opening.
UPDATE circuits SET
  back_at = IF(%(met)s = 'THERE', IF(met <> 'THERE', NOW(6), back_at), NULL), met = %(met)s, said = %(said)s,
  rest_until = GREATEST(COALESCE(rest_until, NOW(6)), NOW(6) + INTERVAL %(rest_in_us)s MICROSECOND),
  asked_at = NOW(6), asker_deadline = NOW(6) + INTERVAL %(asker_in_us)s MICROSECOND
WHERE keycloak = %(keycloak)s AND generation = %(generation)s AND state = 'OPEN' AND asker = %(asker)s;

-- name: want
-- Somebody wants to know at once: the next look at an open circuit makes a control call.
UPDATE circuits SET wanted_at = NOW(6) WHERE keycloak = %(keycloak)s AND generation = %(generation)s AND state = 'OPEN';

-- name: note_check
-- A control call was made.
UPDATE circuits SET last_check_at = NOW(6), last_check_ok = %(ok)s,
  last_success_at = IF(%(ok)s = 1, NOW(6), last_success_at), failures = %(failures)s
WHERE keycloak = %(keycloak)s;

-- name: note_success
-- A delivery succeeded lately. After a closing it shows that the news was true.
UPDATE circuits SET
  news_tries = IF(state = 'CLOSED' AND changed_at <= NOW(6) - INTERVAL %(ago_us)s MICROSECOND, 0, news_tries),
  last_success_at = GREATEST(COALESCE(last_success_at, '1970-01-01'), NOW(6) - INTERVAL %(ago_us)s MICROSECOND),
  failures = %(failures)s
WHERE keycloak = %(keycloak)s;

-- name: set_realm_fault
-- An instance finds a realm's configuration at fault; the fault began when the first did.
INSERT INTO realms (realm, fault, fault_detail, fault_since, fault_by)
VALUES (%(realm)s, %(fault)s, %(detail)s, NOW(6), %(instance)s)
ON DUPLICATE KEY UPDATE fault_since = COALESCE(fault_since, NOW(6)),
  fault = VALUES(fault), fault_detail = VALUES(fault_detail), fault_by = VALUES(fault_by);

-- name: end_realm_fault
-- An instance found a realm well. What another that is alive has found stands: its settings may be others.
UPDATE realms SET fault = NULL, fault_detail = NULL, fault_since = NULL, fault_by = NULL
WHERE realm = %(realm)s AND fault IS NOT NULL AND (fault_by IS NULL OR fault_by = %(instance)s
  OR NOT EXISTS (SELECT 1 FROM instances i WHERE i.instance = realms.fault_by AND i.deadline > NOW(6)));

-- name: realm_faults_to_ask
-- Realms at fault by an instance's own word, or by that of one which is no more.
SELECT realm FROM realms r WHERE fault IS NOT NULL AND (fault_by IS NULL OR fault_by = %(instance)s
  OR NOT EXISTS (SELECT 1 FROM instances i WHERE i.instance = r.fault_by AND i.deadline > NOW(6)));

-- name: realm_faults
-- Realms at fault.
SELECT realm, fault, fault_detail, fault_since FROM realms WHERE fault IS NOT NULL ORDER BY realm;
