-- What must not be accepted again on any node: sessions that were signed out, hand-offs that were used.
CREATE TABLE spent (
    kind      BIGINT NOT NULL,
    id        BYTEA  NOT NULL,
    forget_at BIGINT NOT NULL, -- milliseconds since 1970: from then on the token is refused for its age
    -- Which transaction wrote it. Whoever reads what is new reads from the oldest transaction that was still under way at
    -- the last reading: rows become visible in another order than they are numbered in.
    written   BIGINT NOT NULL DEFAULT (pg_current_xact_id()::text::bigint),
    PRIMARY KEY (kind, id)
);
CREATE INDEX spent_by_age ON spent (forget_at);
CREATE INDEX spent_by_news ON spent (kind, written);
