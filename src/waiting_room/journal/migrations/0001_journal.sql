-- Everything that happened to a sale's queue, in order. The authority: memory is a fold of it.
CREATE TABLE journal (
    seq  INTEGER PRIMARY KEY AUTOINCREMENT,
    sale TEXT NOT NULL,
    kind TEXT NOT NULL,
    body BLOB NOT NULL
) STRICT;
CREATE INDEX journal_of_sale ON journal (sale, seq);

-- The last defence of "one number, one entry" and of "one fan, one visit at a time", whatever the memory believes.
CREATE TABLE entry (
    sale       TEXT NOT NULL,
    number     INTEGER NOT NULL,
    subject    INTEGER NOT NULL,
    visit      TEXT NOT NULL UNIQUE,
    entered_at INTEGER NOT NULL,
    ended_at   INTEGER,
    PRIMARY KEY (sale, number)
) STRICT;
CREATE UNIQUE INDEX live_visit ON entry (sale, subject) WHERE ended_at IS NULL;

-- One number, one join; a second writer on the same sale is found out at its first record.
CREATE TABLE join_group (
    sale         TEXT NOT NULL,
    first_number INTEGER NOT NULL,
    PRIMARY KEY (sale, first_number)
) STRICT, WITHOUT ROWID;
