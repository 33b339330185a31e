-- Only a waiting lane is due at some time (docs/decisions/0038).
UPDATE lanes SET due_at = NULL WHERE state <> 'WAITING' AND due_at IS NOT NULL;
