-- What must not be accepted again by any node: sessions that were signed out, hand-offs that were used.
CREATE TABLE spent (
    kind       smallint    NOT NULL,
    id         bytea       NOT NULL,
    forget_at  bigint      NOT NULL, -- milliseconds since 1970: from then on the token is refused for its age
    spender    bigint      NOT NULL, -- whose mark it is, so that a node knows its own when it has to write it again
    written_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (kind, id)
);
CREATE INDEX spent_by_age ON spent (forget_at);
CREATE INDEX spent_sessions_lately ON spent (written_at) WHERE kind = 1;
