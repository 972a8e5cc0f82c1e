-- Who asked to be told when they are called. Deleted once they were told, and when the sale closes.
CREATE TABLE call_notice (
    sale           TEXT NOT NULL,
    arrival_number INTEGER NOT NULL,
    customer       BLOB NOT NULL, -- encrypted
    PRIMARY KEY (sale, arrival_number)
) STRICT, WITHOUT ROWID;
