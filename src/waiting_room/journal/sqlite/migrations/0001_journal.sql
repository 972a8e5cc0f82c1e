-- The journals of one or more sales in one file. Times are milliseconds since the Unix epoch, UTC.

-- Every change of a sale's queue, in order. This is the authority: the store is a fold of it.
CREATE TABLE journal (
    seq  INTEGER PRIMARY KEY AUTOINCREMENT,
    sale TEXT NOT NULL,
    kind TEXT NOT NULL,
    body BLOB NOT NULL
) STRICT;
CREATE INDEX journal_of_sale ON journal (sale, seq);

-- Last line of defense for "one number, one visit" and "one subject, one visit at a time", independent of the store.
CREATE TABLE visit (
    sale         TEXT NOT NULL,
    queue_number INTEGER NOT NULL,
    subject      INTEGER NOT NULL,
    visit_id     TEXT NOT NULL UNIQUE,
    admitted_at  INTEGER NOT NULL,
    ended_at     INTEGER,
    PRIMARY KEY (sale, queue_number)
) STRICT;
CREATE UNIQUE INDEX open_visit_of_subject ON visit (sale, subject) WHERE ended_at IS NULL;

-- One number, one join: a second writer on the same sale fails at its first record.
CREATE TABLE join_group (
    sale         TEXT NOT NULL,
    first_number INTEGER NOT NULL,
    PRIMARY KEY (sale, first_number)
) STRICT, WITHOUT ROWID;

-- The hash chain over the records; `journal/chain.rs` specifies what is hashed.
CREATE TABLE chain_link (
    sale        TEXT NOT NULL,
    link_number INTEGER NOT NULL, -- from 1, without gaps
    last_seq    INTEGER NOT NULL, -- the last record that the link covers
    records     INTEGER NOT NULL, -- how many records it covers
    hash        BLOB NOT NULL,
    PRIMARY KEY (sale, link_number)
) STRICT, WITHOUT ROWID;

-- With durability `async`, numbers up to `max_number` may have been assigned without being in the journal yet. After a
-- crash numbering continues above it, so a lost number is never assigned to a second subject.
CREATE TABLE number_ceiling (
    sale       TEXT PRIMARY KEY,
    max_number INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
