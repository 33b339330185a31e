-- name: drifted
-- Users whom others have changed in Keycloak, those found first at the front. Index: drift; of one user: PRIMARY.
SELECT f.lane_id, l.realm, l.username_key, CONVERT(f.drift USING utf8mb4) AS drift, f.drift_at AS since
FROM folds f JOIN lanes l ON l.lane_id = f.lane_id
WHERE f.drift_at IS NOT NULL AND (%(lane)s IS NULL OR f.lane_id = %(lane)s) AND (%(realm)s IS NULL OR l.realm = %(realm)s)
ORDER BY f.drift_at LIMIT %(limit)s;

-- name: still_asked
-- How many of these users wait for what was asked of them. Index: lane.
SELECT COUNT(DISTINCT lane_id) AS n FROM doubts WHERE lane_id IN %(lanes)s AND kind = 'asked';
