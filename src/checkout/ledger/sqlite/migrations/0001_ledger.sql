-- Times are milliseconds since the Unix epoch, UTC; amounts are minor units; ids are hyphenated UUIDs.

CREATE TABLE orders (
    id               TEXT PRIMARY KEY,
    sale             TEXT NOT NULL,
    performance      TEXT NOT NULL,
    buyer            TEXT NOT NULL,
    visit            TEXT NOT NULL,
    hold             TEXT NOT NULL,
    state            TEXT NOT NULL,
    reason           TEXT,
    stuck            INTEGER NOT NULL DEFAULT 0,
    amount           INTEGER NOT NULL CHECK (amount >= 0),
    currency         TEXT NOT NULL,
    method           TEXT NOT NULL,
    payment_key      TEXT UNIQUE,
    payment_url      TEXT,
    payment_deadline INTEGER NOT NULL,
    created_at       INTEGER NOT NULL,
    updated_at       INTEGER NOT NULL,
    attempt_open     INTEGER NOT NULL DEFAULT 1,
    payment_check_at INTEGER -- when the payment of a closed order is looked up once more, for late money
) STRICT;
CREATE UNIQUE INDEX one_open_attempt_per_hold ON orders (hold) WHERE attempt_open = 1;
CREATE INDEX orders_of_buyer ON orders (buyer, sale);
CREATE INDEX orders_to_check ON orders (payment_check_at) WHERE payment_check_at IS NOT NULL;

CREATE TABLE order_seat (
    order_id TEXT NOT NULL REFERENCES orders (id),
    seat     TEXT NOT NULL,
    position INTEGER NOT NULL,
    info     TEXT NOT NULL, -- zone, section, row, number, price as sold (JSON)
    fence    INTEGER,       -- fence of the order's claim
    PRIMARY KEY (order_id, seat)
) STRICT, WITHOUT ROWID;

-- The only authority on who owns a seat: one row, one owner. DELETE frees.
CREATE TABLE seat_claim (
    sale        TEXT NOT NULL,
    performance TEXT NOT NULL,
    seat        TEXT NOT NULL,
    order_id    TEXT NOT NULL REFERENCES orders (id),
    fence       INTEGER NOT NULL,
    state       TEXT NOT NULL CHECK (state IN ('claimed', 'paying', 'booked')),
    claimed_at  INTEGER NOT NULL,
    PRIMARY KEY (sale, performance, seat)
) STRICT, WITHOUT ROWID;
CREATE INDEX claims_of_order ON seat_claim (order_id);

-- Never deleted: a seat's fence only grows.
CREATE TABLE seat_fence (
    sale        TEXT NOT NULL,
    performance TEXT NOT NULL,
    seat        TEXT NOT NULL,
    last        INTEGER NOT NULL,
    PRIMARY KEY (sale, performance, seat)
) STRICT, WITHOUT ROWID;

CREATE TABLE closed_attempt (
    hold      TEXT NOT NULL,
    order_id  TEXT NOT NULL,
    closed_at INTEGER NOT NULL,
    PRIMARY KEY (hold, order_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE customer_quota (
    sale  TEXT NOT NULL,
    buyer TEXT NOT NULL,
    seats INTEGER NOT NULL CHECK (seats >= 0),
    PRIMARY KEY (sale, buyer)
) STRICT, WITHOUT ROWID;

CREATE TABLE saga (
    order_id        TEXT PRIMARY KEY REFERENCES orders (id),
    saga            TEXT NOT NULL,
    step            TEXT NOT NULL,
    undoing         INTEGER NOT NULL DEFAULT 0,
    attempts        INTEGER NOT NULL DEFAULT 0,
    step_started_at INTEGER NOT NULL,
    ended           INTEGER NOT NULL DEFAULT 0,
    lease_owner     TEXT NOT NULL,
    lease_until     INTEGER NOT NULL,
    fence           INTEGER NOT NULL -- grows with every lease; a write under an older one is refused
) STRICT, WITHOUT ROWID;
CREATE INDEX saga_unfinished ON saga (lease_until) WHERE ended = 0;

CREATE TABLE saga_log (
    order_id TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    saga     TEXT NOT NULL,
    step     TEXT NOT NULL,
    state    TEXT NOT NULL,
    PRIMARY KEY (order_id, sequence)
) STRICT, WITHOUT ROWID;

CREATE TABLE ticket (
    id           TEXT PRIMARY KEY,
    order_id     TEXT NOT NULL REFERENCES orders (id),
    seat         TEXT NOT NULL,
    issued_at    INTEGER NOT NULL,
    delivered_at INTEGER,
    voided_at    INTEGER,
    UNIQUE (order_id, seat)
) STRICT, WITHOUT ROWID;

-- Events for the shop, written in the transaction that makes them true. The events of an order, or of a sale, are one
-- stream.
CREATE TABLE outbox (
    position     INTEGER PRIMARY KEY AUTOINCREMENT, -- in the feed
    stream       TEXT NOT NULL,
    sequence     INTEGER NOT NULL,
    sale         TEXT NOT NULL,
    kind         TEXT NOT NULL,
    data         TEXT NOT NULL,
    at           INTEGER NOT NULL,
    pending      INTEGER NOT NULL DEFAULT 1, -- still to be sent
    delivered_at INTEGER,                    -- when the receiver last accepted it
    skipped_by   TEXT,                       -- the operator who decided that it is not sent
    UNIQUE (stream, sequence)
) STRICT;
CREATE INDEX outbox_pending ON outbox (at) WHERE pending = 1;

-- Delivery of one stream.
CREATE TABLE outbox_stream (
    stream        TEXT PRIMARY KEY,
    last_sequence INTEGER NOT NULL,
    due_at        INTEGER,                    -- when its first pending event may be leased; null: nothing to send, or dead
    lease         INTEGER NOT NULL DEFAULT 0, -- grows with every lease; a result under an older one is refused
    attempts      INTEGER NOT NULL DEFAULT 0, -- failed attempts at its first pending event
    failing_since INTEGER,
    last_error    TEXT,
    dead_at       INTEGER                     -- its first pending event is a dead letter
) STRICT, WITHOUT ROWID;
CREATE INDEX outbox_due ON outbox_stream (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX outbox_dead ON outbox_stream (stream) WHERE dead_at IS NOT NULL;

CREATE TABLE idempotency_key (
    buyer        TEXT NOT NULL,
    key          TEXT NOT NULL,
    request_hash TEXT NOT NULL,
    order_id     TEXT NOT NULL,
    at           INTEGER NOT NULL,
    PRIMARY KEY (buyer, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE inbox (
    gateway TEXT NOT NULL,
    event   TEXT NOT NULL,
    at      INTEGER NOT NULL,
    PRIMARY KEY (gateway, event)
) STRICT, WITHOUT ROWID;

-- Append-only; each row's hash covers the one before.
CREATE TABLE order_journal (
    sequence INTEGER PRIMARY KEY,
    at       INTEGER NOT NULL,
    order_id TEXT NOT NULL,
    change   TEXT NOT NULL,
    hash     BLOB NOT NULL
) STRICT;
CREATE TRIGGER order_journal_is_not_changed BEFORE UPDATE ON order_journal BEGIN SELECT RAISE(ABORT, 'the order journal is append-only'); END;
CREATE TRIGGER order_journal_is_not_deleted BEFORE DELETE ON order_journal BEGIN SELECT RAISE(ABORT, 'the order journal is append-only'); END;

-- Current epoch of each performance's seat store, kept here because the ledger does not lose data.
CREATE TABLE seat_store_epoch (
    sale        TEXT NOT NULL,
    performance TEXT NOT NULL,
    epoch       INTEGER NOT NULL,
    identity    TEXT NOT NULL, -- of the server that holds the data
    PRIMARY KEY (sale, performance)
) STRICT, WITHOUT ROWID;
