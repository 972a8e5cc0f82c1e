-- Tokens that no node must accept again: signed-out sessions (kind 1) and used hand-offs (kind 2).
CREATE TABLE used_tokens (
    kind       smallint    NOT NULL,
    id         bytea       NOT NULL,
    expires_at bigint      NOT NULL, -- milliseconds since 1970; afterwards the token is refused as expired
    writer_id  bigint      NOT NULL, -- random id of the write, so that a repeated write recognizes its own rows
    written_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (kind, id)
);
CREATE INDEX used_tokens_expires_at ON used_tokens (expires_at);
CREATE INDEX used_tokens_recent_sessions ON used_tokens (written_at) WHERE kind = 1;
