-- The house's keys, sealed under the master key that is nowhere in here. One row, written once.
CREATE TABLE sealed_keys (
    one    BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (one),
    sealed BYTEA NOT NULL
);
