-- What must not be accepted again: sessions that were signed out, hand-offs that were used.
CREATE TABLE spent (
    kind      INTEGER NOT NULL,
    id        BLOB    NOT NULL,
    forget_at INTEGER NOT NULL, -- milliseconds since 1970: from then on the token is refused for its age
    PRIMARY KEY (kind, id)
) WITHOUT ROWID;
CREATE INDEX spent_by_age ON spent (forget_at);
