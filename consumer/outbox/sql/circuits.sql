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
  opened_at, last_success_at, last_check_at, last_check_ok
FROM circuits WHERE keycloak = %(keycloak)s;

-- name: change
-- A transition: only from the generation that was read.
UPDATE circuits SET generation = generation + 1, state = %(state)s, reason = %(reason)s, failures = %(failures)s,
  openings = %(openings)s,
  opened_at = IF(%(state)s = 'OPEN' AND opened_at IS NULL, NOW(6), IF(%(state)s = 'CLOSED', NULL, opened_at)),
  retry_at = NOW(6) + INTERVAL %(retry_in_us)s MICROSECOND,
  probe_owner = %(probe_owner)s, probe_deadline = NOW(6) + INTERVAL %(probe_in_us)s MICROSECOND, changed_at = NOW(6)
WHERE keycloak = %(keycloak)s AND generation = %(generation)s;

-- name: note_check
-- A control call was made.
UPDATE circuits SET last_check_at = NOW(6), last_check_ok = %(ok)s,
  last_success_at = IF(%(ok)s = 1, NOW(6), last_success_at), failures = %(failures)s
WHERE keycloak = %(keycloak)s;

-- name: note_success
-- A delivery succeeded lately.
UPDATE circuits SET last_success_at = GREATEST(COALESCE(last_success_at, '1970-01-01'), NOW(6) - INTERVAL %(ago_us)s MICROSECOND),
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
