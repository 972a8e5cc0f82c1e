-- The service's keys, encrypted under the master key, which is never stored. One row, written once.
CREATE TABLE encrypted_keys (
    singleton  BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (singleton),
    ciphertext BYTEA NOT NULL
);

-- The schemas of this database that the service has created: they are never created anew.
CREATE TABLE created_schemas (name TEXT PRIMARY KEY);
