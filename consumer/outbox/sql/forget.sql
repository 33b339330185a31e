-- name: seen_logs
-- How far each partition was ingested, and what Kafka held when its writer last looked.
SELECT topic_id, partition_no AS `partition`, next_offset, log_start, log_end, log_seen_at FROM watermarks;

-- name: ledger_piece_end
-- Where the next piece of the ledger ends. Index: primary.
SELECT event_hash FROM ledger WHERE event_hash > %(after)s ORDER BY event_hash LIMIT 1 OFFSET %(offset)s;

-- name: forgettable_events
-- What may go of one piece and topic. Index: primary of both.
-- It reads without locks: ledger rows do not change, and ingest adds new ones meanwhile.
SELECT l.event_hash FROM ledger l FORCE INDEX (PRIMARY)
STRAIGHT_JOIN watermarks w ON w.topic_id = l.topic_id AND w.partition_no = l.partition_no
WHERE l.event_hash > %(after)s AND l.event_hash <= %(until)s
  AND l.topic_id = %(topic_id)s AND l.first_seen < %(before)s AND l.log_offset < w.log_start;

-- name: delete_events
-- Ledger rows, by primary key.
DELETE FROM ledger WHERE event_hash IN %(hashes)s;

-- name: marks_piece_end
-- Where the next piece of a partition's marks ends. Index: primary.
SELECT log_offset FROM marks
WHERE topic_id = %(topic_id)s AND partition_no = %(partition)s AND log_offset >= %(first)s AND log_offset < %(start)s
ORDER BY log_offset LIMIT 1 OFFSET %(offset)s;

-- name: forgettable_marks
-- What may go of one piece, read without locks: a drainer may be writing a mark of a late death. Index: primary.
SELECT log_offset FROM marks
WHERE topic_id = %(topic_id)s AND partition_no = %(partition)s AND log_offset >= %(first)s AND log_offset <= %(last)s
  AND marked_at < %(before)s;

-- name: delete_marks
-- Marks of these positions, as far as they are old. Index: primary.
DELETE FROM marks WHERE topic_id = %(topic_id)s AND partition_no = %(partition)s AND log_offset IN %(offsets)s
  AND marked_at < %(before)s;

-- name: finish_walk
-- The ledger was gone through, to the end.
INSERT INTO housekeeping (chore, finished_at) VALUES ('ledger', NOW(6)) ON DUPLICATE KEY UPDATE finished_at = NOW(6);

-- name: walked_within
-- Whether that was done so many seconds ago, or less.
SELECT 1 AS done FROM housekeeping WHERE chore = 'ledger' AND finished_at > NOW(6) - INTERVAL %(seconds)s SECOND;
