-- A user whom a federation stores without importing them has an id that holds the federation's id and their name there.
ALTER TABLE folds
  MODIFY COLUMN user_id VARCHAR(255) NULL COMMENT 'the id Keycloak gave the user; of a federation: f:<federation>:<name>';
