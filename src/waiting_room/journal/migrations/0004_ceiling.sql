-- Up to which number a sale's numbers may have been given without being in the journal: whoever is answered before she is
-- written down may be lost with the process, and her number must not become somebody else's.
CREATE TABLE ceiling (
    sale TEXT PRIMARY KEY,
    upto INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
