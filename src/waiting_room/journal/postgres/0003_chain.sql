-- The journal's records as a chain of hashes: each link is over the records after the one before it. What is hashed, and
-- how, is written down in the program's documentation of the chain (`journal/chain.rs`).
CREATE TABLE link (
    sale    text   NOT NULL,
    number  bigint NOT NULL, -- from 1, without gaps
    upto    bigint NOT NULL, -- the last record that it is over
    records bigint NOT NULL, -- how many it is over
    hash    bytea  NOT NULL,
    PRIMARY KEY (sale, number)
);
