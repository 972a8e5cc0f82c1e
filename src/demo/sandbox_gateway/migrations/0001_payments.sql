-- The gateway's payments. Reconciliation and audits compare the ledger with them.
CREATE TABLE payment (
    key   TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    body  TEXT NOT NULL -- JSON
) STRICT, WITHOUT ROWID;

CREATE TABLE webhook (
    id       TEXT PRIMARY KEY,
    body     TEXT NOT NULL,
    copies   INTEGER NOT NULL, -- how often it is still to be sent
    attempts INTEGER NOT NULL DEFAULT 0,
    due_at   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX webhook_due ON webhook (due_at);
