-- The journal's records as a chain of hashes: each link is over the records after the one before it. What is hashed, and
-- how, is written down in the program's documentation of the chain (`journal/chain.rs`).
CREATE TABLE link (
    sale    TEXT NOT NULL,
    number  INTEGER NOT NULL, -- from 1, without gaps
    upto    INTEGER NOT NULL, -- the last record that it is over
    records INTEGER NOT NULL, -- how many it is over
    hash    BLOB NOT NULL,
    PRIMARY KEY (sale, number)
) STRICT, WITHOUT ROWID;
