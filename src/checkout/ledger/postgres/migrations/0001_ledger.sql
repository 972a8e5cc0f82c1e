-- Times are milliseconds since the Unix epoch, UTC; amounts are minor units; ids are hyphenated UUIDs.
-- Keys compare by their bytes, so that every node takes its locks in the same order whatever the database's language.

CREATE TABLE orders (
    id           TEXT COLLATE "C" PRIMARY KEY,
    sale         TEXT COLLATE "C" NOT NULL,
    performance  TEXT COLLATE "C" NOT NULL,
    buyer        TEXT COLLATE "C" NOT NULL,
    visit        TEXT NOT NULL,
    hold         TEXT COLLATE "C" NOT NULL,
    state        TEXT NOT NULL,
    reason       TEXT,
    stuck        BOOLEAN NOT NULL DEFAULT FALSE,
    amount       BIGINT NOT NULL CHECK (amount >= 0),
    currency     TEXT NOT NULL,
    method       TEXT NOT NULL,
    payment_key  TEXT COLLATE "C" UNIQUE,
    action       TEXT,
    pay_by       BIGINT NOT NULL,
    created_at   BIGINT NOT NULL,
    updated_at   BIGINT NOT NULL,
    attempt_open BOOLEAN NOT NULL DEFAULT TRUE,
    check_at     BIGINT -- when a closed order's payment is looked up once more, for money that comes late
);
CREATE UNIQUE INDEX one_open_attempt_a_hold ON orders (hold) WHERE attempt_open;
CREATE INDEX orders_of_buyer ON orders (buyer, sale);
CREATE INDEX orders_to_check ON orders (check_at) WHERE check_at IS NOT NULL;
CREATE INDEX orders_stuck ON orders (id) WHERE stuck;

CREATE TABLE order_seat (
    order_id TEXT COLLATE "C" NOT NULL REFERENCES orders (id),
    seat     TEXT COLLATE "C" NOT NULL,
    position BIGINT NOT NULL,
    info     JSON NOT NULL, -- zone, section, row, number, price as sold
    fence    BIGINT,        -- that of the order's claim
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

-- Whoever changes an order holds its row here first: it is the order's lock and says whose the order is.
CREATE TABLE saga (
    order_id    TEXT COLLATE "C" PRIMARY KEY REFERENCES orders (id),
    saga        TEXT NOT NULL,
    step        TEXT NOT NULL,
    back        BOOLEAN NOT NULL DEFAULT FALSE,
    attempts    BIGINT NOT NULL DEFAULT 0,
    since       BIGINT NOT NULL,
    ended       BOOLEAN NOT NULL DEFAULT FALSE,
    lease_owner TEXT NOT NULL,
    lease_until BIGINT NOT NULL,
    fence       BIGINT NOT NULL -- grows with every lease; a write under an older one is refused
);
CREATE INDEX saga_unfinished ON saga (lease_until) WHERE NOT ended;

CREATE TABLE saga_log (
    order_id TEXT COLLATE "C" NOT NULL,
    n        BIGINT NOT NULL,
    at       BIGINT NOT NULL,
    saga     TEXT NOT NULL,
    step     TEXT NOT NULL,
    state    TEXT NOT NULL,
    PRIMARY KEY (order_id, n)
);

CREATE TABLE ticket (
    id           TEXT COLLATE "C" PRIMARY KEY,
    order_id     TEXT COLLATE "C" NOT NULL REFERENCES orders (id),
    seat         TEXT COLLATE "C" NOT NULL,
    issued_at    BIGINT NOT NULL,
    delivered_at BIGINT,
    withdrawn_at BIGINT,
    UNIQUE (order_id, seat)
);

CREATE TABLE outbox (
    order_id     TEXT COLLATE "C" NOT NULL,
    sequence     BIGINT NOT NULL,
    kind         TEXT NOT NULL,
    data         TEXT NOT NULL,
    at           BIGINT NOT NULL,
    delivered_at BIGINT,
    PRIMARY KEY (order_id, sequence)
);

CREATE TABLE idempotency (
    scope        TEXT COLLATE "C" NOT NULL,
    key          TEXT COLLATE "C" NOT NULL,
    request_hash TEXT NOT NULL,
    order_id     TEXT NOT NULL,
    at           BIGINT NOT NULL,
    PRIMARY KEY (scope, key)
);

CREATE TABLE inbox (
    gateway TEXT COLLATE "C" NOT NULL,
    event   TEXT COLLATE "C" NOT NULL,
    at      BIGINT NOT NULL,
    PRIMARY KEY (gateway, event)
);

-- Which memory of a performance the seats' engine is on, counted here because nothing is forgotten here.
CREATE TABLE engine_memory (
    sale        TEXT COLLATE "C" NOT NULL,
    performance TEXT COLLATE "C" NOT NULL,
    epoch       BIGINT NOT NULL,
    identity    TEXT NOT NULL, -- of the server that holds it
    PRIMARY KEY (sale, performance)
);

-- Append-only. A row is written with what it tells of and linked a moment later: its place in the chain, and a hash that
-- covers the link before. Linking at once would let only one transaction be under way in the whole house.
CREATE TABLE audit (
    id       BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at       BIGINT NOT NULL,
    order_id TEXT NOT NULL,
    what     TEXT NOT NULL,
    n        BIGINT UNIQUE,
    hash     BYTEA,
    CHECK ((n IS NULL) = (hash IS NULL))
);
CREATE INDEX audit_unlinked ON audit (id) WHERE n IS NULL;

CREATE FUNCTION audit_only_grows() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' AND NEW.n IS NULL THEN
        RETURN NEW;
    END IF;
    IF TG_OP = 'UPDATE' AND OLD.n IS NULL AND NEW.n IS NOT NULL
       AND (NEW.id, NEW.at, NEW.order_id, NEW.what) = (OLD.id, OLD.at, OLD.order_id, OLD.what) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'the audit log only grows';
END $$;
CREATE TRIGGER audit_is_not_changed BEFORE INSERT OR UPDATE OR DELETE ON audit
    FOR EACH ROW EXECUTE FUNCTION audit_only_grows();
CREATE TRIGGER audit_is_not_emptied BEFORE TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION audit_only_grows();
