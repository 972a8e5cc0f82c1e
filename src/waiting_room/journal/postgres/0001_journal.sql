-- The queues of all sales, written by any number of nodes. Times are milliseconds since the Unix epoch, UTC.

-- Where each sale's journal stands. Whoever writes holds this row until the commit: so its records have one order and
-- no gaps, and what is checked here is exact.
CREATE TABLE head (
    sale        text PRIMARY KEY,
    seq         bigint NOT NULL DEFAULT 0,
    epoch       bigint NOT NULL DEFAULT 0,  -- memories of the engine so far
    identity    text   NOT NULL DEFAULT '', -- of the server that has the present one
    settled     bigint NOT NULL DEFAULT 0,  -- the epoch from whose beginning on no join of the one before is taken
    ceiling     bigint NOT NULL DEFAULT 0,  -- numbers up to this one may have been given
    now_serving bigint NOT NULL DEFAULT 0,
    alive_at    bigint NOT NULL DEFAULT 0,  -- when somebody was last at the door
    buckets     bigint NOT NULL             -- of the engine's map of subjects; as of the sale's creation
);

CREATE TABLE journal (
    sale text   NOT NULL,
    seq  bigint NOT NULL,
    kind text   NOT NULL,
    body bytea  NOT NULL,
    PRIMARY KEY (sale, seq)
);

-- The last defence of "one number, one entry" and of "one fan, one visit at a time", whatever the engine believes.
CREATE TABLE entry (
    sale       text   NOT NULL,
    number     bigint NOT NULL,
    subject    bigint NOT NULL,
    visit      text   NOT NULL UNIQUE,
    entered_at bigint NOT NULL,
    ended_at   bigint,
    seq        bigint NOT NULL,
    PRIMARY KEY (sale, number)
);
CREATE UNIQUE INDEX live_visit ON entry (sale, subject) WHERE ended_at IS NULL;

-- Visits whose slot was given back because their entry was not written down in time: it is refused from then on.
CREATE TABLE lapsed (
    visit text PRIMARY KEY
);

-- One number, one join.
CREATE TABLE join_group (
    sale         text   NOT NULL,
    first_number bigint NOT NULL,
    last_number  bigint NOT NULL,
    PRIMARY KEY (sale, first_number)
);

-- Appends records in one step. What a record has to satisfy besides being kept is its `effect`, with the numbers `a` and
-- `b`, a visit and a time; see the program for which is what. Errors: SD001 the epoch is over, SD002 a record excludes
-- this one (unique violations mean the same), SD003 a number above the ceiling.
CREATE FUNCTION append(
    the_sale text, the_epoch bigint, the_time bigint, headroom bigint,
    kinds text[], bodies bytea[], effects text[], a bigint[], b bigint[], visits text[], times bigint[]
) RETURNS TABLE (last bigint, top bigint) LANGUAGE plpgsql AS $$
DECLARE
    h head%ROWTYPE;
BEGIN
    SELECT * INTO STRICT h FROM head WHERE sale = the_sale FOR UPDATE;
    -- Joins whose numbers were given a moment before the engine lost its memory may still come in: the ceiling keeps
    -- their numbers apart from later ones, and the rebuild waits for them.
    IF h.epoch <> the_epoch AND NOT (h.epoch = the_epoch + 1 AND h.settled < h.epoch AND 'joined' = ALL (effects)) THEN
        RAISE EXCEPTION 'the epoch is over' USING ERRCODE = 'SD001';
    END IF;
    FOR i IN 1 .. cardinality(kinds) LOOP
        h.seq := h.seq + 1;
        INSERT INTO journal VALUES (the_sale, h.seq, kinds[i], bodies[i]);
        CASE effects[i]
        WHEN 'joined' THEN
            IF b[i] > h.ceiling THEN
                RAISE EXCEPTION 'number above the ceiling' USING ERRCODE = 'SD003';
            END IF;
            h.ceiling := greatest(h.ceiling, b[i] + headroom);
            -- Groups do not overlap, so the last one that begins before this one ends is the only one it could meet.
            IF a[i] <= (SELECT last_number FROM join_group WHERE sale = the_sale AND first_number <= b[i]
                        ORDER BY first_number DESC LIMIT 1) THEN
                RAISE EXCEPTION 'a number is written already' USING ERRCODE = 'SD002';
            END IF;
            INSERT INTO join_group VALUES (the_sale, a[i], b[i]);
        WHEN 'called' THEN
            IF a[i] <> h.now_serving THEN
                RAISE EXCEPTION 'another call came first' USING ERRCODE = 'SD002';
            END IF;
            h.now_serving := b[i];
        WHEN 'entered' THEN
            IF EXISTS (SELECT 1 FROM lapsed WHERE visit = visits[i]) THEN
                RAISE EXCEPTION 'the slot was given back' USING ERRCODE = 'SD002';
            END IF;
            INSERT INTO entry (sale, number, subject, visit, entered_at, seq) VALUES (the_sale, a[i], b[i], visits[i], times[i], h.seq);
        WHEN 'ended' THEN
            UPDATE entry SET ended_at = times[i] WHERE sale = the_sale AND number = a[i] AND ended_at IS NULL;
        WHEN 'lapsed' THEN
            IF EXISTS (SELECT 1 FROM entry WHERE visit = visits[i]) THEN
                RAISE EXCEPTION 'the entry was written' USING ERRCODE = 'SD002';
            END IF;
            INSERT INTO lapsed VALUES (visits[i]);
        ELSE
            NULL;
        END CASE;
    END LOOP;
    UPDATE head SET seq = h.seq, ceiling = h.ceiling, now_serving = h.now_serving, alive_at = greatest(alive_at, the_time)
    WHERE sale = the_sale;
    RETURN QUERY SELECT h.seq, h.ceiling;
END $$;
