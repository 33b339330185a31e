-- What folds have kept until now.
UPDATE folds SET credential_at = NOW(6), updated_at = updated_at WHERE credential IS NOT NULL AND credential_at IS NULL;
