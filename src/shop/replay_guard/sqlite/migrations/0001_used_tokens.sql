-- Tokens that must not be accepted again: signed-out sessions (kind 1) and used hand-offs (kind 2).
CREATE TABLE used_tokens (
    kind       INTEGER NOT NULL,
    id         BLOB    NOT NULL,
    expires_at INTEGER NOT NULL, -- milliseconds since 1970; afterwards the token is refused as expired
    PRIMARY KEY (kind, id)
) WITHOUT ROWID;
CREATE INDEX used_tokens_expires_at ON used_tokens (expires_at);
