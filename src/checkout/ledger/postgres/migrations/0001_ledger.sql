-- Times are milliseconds since the Unix epoch, UTC; amounts are minor units; ids are hyphenated UUIDs.
-- Keys compare by their bytes, so that all nodes take locks in the same order whatever the database's locale is.

CREATE TABLE orders (
    id               TEXT COLLATE "C" PRIMARY KEY,
    sale             TEXT COLLATE "C" NOT NULL,
    performance      TEXT COLLATE "C" NOT NULL,
    buyer            TEXT COLLATE "C" NOT NULL,
    visit            TEXT NOT NULL,
    hold             TEXT COLLATE "C" NOT NULL,
    state            TEXT NOT NULL,
    reason           TEXT,
    stuck            BOOLEAN NOT NULL DEFAULT FALSE,
    amount           BIGINT NOT NULL CHECK (amount >= 0),
    currency         TEXT NOT NULL,
    method           TEXT NOT NULL,
    payment_key      TEXT COLLATE "C" UNIQUE,
    payment_url      TEXT,
    payment_deadline BIGINT NOT NULL,
    created_at       BIGINT NOT NULL,
    updated_at       BIGINT NOT NULL,
    attempt_open     BOOLEAN NOT NULL DEFAULT TRUE,
    payment_check_at BIGINT -- when the payment of a closed order is looked up once more, for late money
);
CREATE UNIQUE INDEX one_open_attempt_per_hold ON orders (hold) WHERE attempt_open;
CREATE INDEX orders_of_buyer ON orders (buyer, sale);
CREATE INDEX orders_to_check ON orders (payment_check_at) WHERE payment_check_at IS NOT NULL;
CREATE INDEX orders_stuck ON orders (id) WHERE stuck;

CREATE TABLE order_seat (
    order_id TEXT COLLATE "C" NOT NULL REFERENCES orders (id),
    seat     TEXT COLLATE "C" NOT NULL,
    position BIGINT NOT NULL,
    info     JSON NOT NULL, -- zone, section, row, number, price as sold
    fence    BIGINT,        -- fence of the order's claim
    PRIMARY KEY (order_id, seat)
);

-- The only authority on who owns a seat: one row, one owner. DELETE frees.
CREATE TABLE seat_claim (
    sale        TEXT COLLATE "C" NOT NULL,
    performance TEXT COLLATE "C" NOT NULL,
    seat        TEXT COLLATE "C" NOT NULL,
    order_id    TEXT COLLATE "C" NOT NULL REFERENCES orders (id),
    fence       BIGINT NOT NULL, -- 0 only within the transaction that claims
    state       TEXT NOT NULL CHECK (state IN ('claimed', 'paying', 'booked')),
    claimed_at  BIGINT NOT NULL,
    PRIMARY KEY (sale, performance, seat)
);
CREATE INDEX claims_of_order ON seat_claim (order_id);

-- Never deleted: a seat's fence only grows.
CREATE TABLE seat_fence (
    sale        TEXT COLLATE "C" NOT NULL,
    performance TEXT COLLATE "C" NOT NULL,
    seat        TEXT COLLATE "C" NOT NULL,
    last        BIGINT NOT NULL,
    PRIMARY KEY (sale, performance, seat)
);

CREATE TABLE closed_attempt (
    hold      TEXT COLLATE "C" NOT NULL,
    order_id  TEXT COLLATE "C" NOT NULL,
    closed_at BIGINT NOT NULL,
    PRIMARY KEY (hold, order_id)
);
CREATE INDEX closed_attempts_of_order ON closed_attempt (order_id);

CREATE TABLE customer_quota (
    sale  TEXT COLLATE "C" NOT NULL,
    buyer TEXT COLLATE "C" NOT NULL,
    seats BIGINT NOT NULL CHECK (seats >= 0),
    PRIMARY KEY (sale, buyer)
);

-- Every transaction that changes an order locks its row here first. The row also says who has leased the order.
CREATE TABLE saga (
    order_id        TEXT COLLATE "C" PRIMARY KEY REFERENCES orders (id),
    saga            TEXT NOT NULL,
    step            TEXT NOT NULL,
    undoing         BOOLEAN NOT NULL DEFAULT FALSE,
    attempts        BIGINT NOT NULL DEFAULT 0,
    step_started_at BIGINT NOT NULL,
    ended           BOOLEAN NOT NULL DEFAULT FALSE,
    lease_owner     TEXT NOT NULL,
    lease_until     BIGINT NOT NULL,
    fence           BIGINT NOT NULL -- grows with every lease; a write under an older one is refused
);
CREATE INDEX saga_unfinished ON saga (lease_until) WHERE NOT ended;

CREATE TABLE saga_log (
    order_id TEXT COLLATE "C" NOT NULL,
    sequence BIGINT NOT NULL,
    at       BIGINT NOT NULL,
    saga     TEXT NOT NULL,
    step     TEXT NOT NULL,
    state    TEXT NOT NULL,
    PRIMARY KEY (order_id, sequence)
);

CREATE TABLE ticket (
    id           TEXT COLLATE "C" PRIMARY KEY,
    order_id     TEXT COLLATE "C" NOT NULL REFERENCES orders (id),
    seat         TEXT COLLATE "C" NOT NULL,
    issued_at    BIGINT NOT NULL,
    delivered_at BIGINT,
    voided_at    BIGINT,
    UNIQUE (order_id, seat)
);

-- Events for the shop, written in the transaction that makes them true. The events of an order, or of a sale, are one
-- stream.
CREATE TABLE outbox (
    stream       TEXT COLLATE "C" NOT NULL,
    sequence     BIGINT NOT NULL,
    sale         TEXT COLLATE "C" NOT NULL,
    kind         TEXT NOT NULL,
    data         TEXT NOT NULL,
    at           BIGINT NOT NULL,
    pending      BOOLEAN NOT NULL DEFAULT TRUE, -- still to be sent
    delivered_at BIGINT,                        -- when the receiver last accepted it
    skipped_by   TEXT,                          -- the operator who decided that it is not sent
    position     BIGINT UNIQUE,                 -- in the feed; given after the commit, so that no reader is ahead of it
    PRIMARY KEY (stream, sequence)
);
CREATE INDEX outbox_pending ON outbox (at) WHERE pending;
CREATE INDEX outbox_unnumbered ON outbox (stream, sequence) WHERE position IS NULL;

-- Delivery of one stream. Writing one of its events, and recording a delivery, lock this row first.
CREATE TABLE outbox_stream (
    stream        TEXT COLLATE "C" PRIMARY KEY,
    last_sequence BIGINT NOT NULL,
    due_at        BIGINT,                    -- when its first pending event may be leased; null: nothing to send, or dead
    lease         BIGINT NOT NULL DEFAULT 0, -- grows with every lease; a result under an older one is refused
    attempts      BIGINT NOT NULL DEFAULT 0, -- failed attempts at its first pending event
    failing_since BIGINT,
    last_error    TEXT,
    dead_at       BIGINT                     -- its first pending event is a dead letter
);
CREATE INDEX outbox_due ON outbox_stream (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX outbox_dead ON outbox_stream (stream) WHERE dead_at IS NOT NULL;

CREATE TABLE idempotency_key (
    buyer        TEXT COLLATE "C" NOT NULL,
    key          TEXT COLLATE "C" NOT NULL,
    request_hash TEXT NOT NULL,
    order_id     TEXT NOT NULL,
    at           BIGINT NOT NULL,
    PRIMARY KEY (buyer, key)
);

CREATE TABLE inbox (
    gateway TEXT COLLATE "C" NOT NULL,
    event   TEXT COLLATE "C" NOT NULL,
    at      BIGINT NOT NULL,
    PRIMARY KEY (gateway, event)
);

-- Current epoch of each performance's seat store, kept here because the ledger does not lose data.
CREATE TABLE seat_store_epoch (
    sale        TEXT COLLATE "C" NOT NULL,
    performance TEXT COLLATE "C" NOT NULL,
    epoch       BIGINT NOT NULL,
    identity    TEXT NOT NULL, -- of the server that holds the data
    PRIMARY KEY (sale, performance)
);

-- Append-only. A row is written with the change that it records, and chained a moment later: it gets its sequence and a
-- hash that covers the row before. Chaining at once would serialize all transactions of all nodes.
CREATE TABLE order_journal (
    id       BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at       BIGINT NOT NULL,
    order_id TEXT NOT NULL,
    change   TEXT NOT NULL,
    sequence BIGINT UNIQUE,
    hash     BYTEA,
    CHECK ((sequence IS NULL) = (hash IS NULL))
);
CREATE INDEX order_journal_unchained ON order_journal (id) WHERE sequence IS NULL;

CREATE FUNCTION order_journal_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' AND NEW.sequence IS NULL THEN
        RETURN NEW;
    END IF;
    IF TG_OP = 'UPDATE' AND OLD.sequence IS NULL AND NEW.sequence IS NOT NULL
       AND (NEW.id, NEW.at, NEW.order_id, NEW.change) = (OLD.id, OLD.at, OLD.order_id, OLD.change) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'the order journal is append-only';
END $$;
CREATE TRIGGER order_journal_is_not_changed BEFORE INSERT OR UPDATE OR DELETE ON order_journal
    FOR EACH ROW EXECUTE FUNCTION order_journal_is_append_only();
CREATE TRIGGER order_journal_is_not_truncated BEFORE TRUNCATE ON order_journal
    FOR EACH STATEMENT EXECUTE FUNCTION order_journal_is_append_only();
