-- The service's keys, encrypted under the master key, which is never stored. One row, written once.
CREATE TABLE encrypted_keys (
    singleton  BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (singleton),
    ciphertext BYTEA NOT NULL
);
