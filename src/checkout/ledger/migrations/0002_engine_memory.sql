-- Which memory of a performance the seats' engine is on, counted here because nothing is forgotten here.
CREATE TABLE engine_memory (
    sale        TEXT NOT NULL,
    performance TEXT NOT NULL,
    epoch       INTEGER NOT NULL,
    identity    TEXT NOT NULL, -- of the server that holds it
    PRIMARY KEY (sale, performance)
) STRICT, WITHOUT ROWID;
