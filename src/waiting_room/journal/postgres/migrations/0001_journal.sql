-- The journals of all sales, written by any number of nodes. Times are milliseconds since the Unix epoch, UTC.

-- The state of each sale's journal. A writer locks this row until its commit: so a sale's records have one order without
-- gaps, and what is checked against this row is exact.
CREATE TABLE journal_head (
    sale              text PRIMARY KEY,
    last_seq          bigint NOT NULL DEFAULT 0,
    epoch             bigint NOT NULL DEFAULT 0,  -- counts the store's datasets
    store_identity    text   NOT NULL DEFAULT '', -- identity of the server that holds the current dataset
    joins_final_epoch bigint NOT NULL DEFAULT 0,  -- since this epoch no join of an earlier epoch is accepted
    max_number        bigint NOT NULL DEFAULT 0,  -- numbers up to this one may have been assigned
    now_serving       bigint NOT NULL DEFAULT 0,
    heartbeat_at      bigint NOT NULL DEFAULT 0,  -- when a node was last ready to admit
    bucket_count      bigint NOT NULL,            -- of the store's subject index; fixed when the sale is created
    draw_entries      bigint                      -- numbers up to this one are in the draw; null until it is closed
);

CREATE TABLE journal (
    sale text   NOT NULL,
    seq  bigint NOT NULL,
    kind text   NOT NULL,
    body bytea  NOT NULL,
    PRIMARY KEY (sale, seq)
);
-- Keyed hashes do not compress: trying to costs more than the rest of a commit.
ALTER TABLE journal ALTER COLUMN body SET STORAGE EXTERNAL;

-- Last line of defense for "one number, one visit" and "one subject, one visit at a time", independent of the store.
CREATE TABLE visit (
    sale         text   NOT NULL,
    queue_number bigint NOT NULL,
    subject      bigint NOT NULL,
    visit_id     text   NOT NULL UNIQUE,
    admitted_at  bigint NOT NULL,
    ended_at     bigint,
    seq          bigint NOT NULL,
    PRIMARY KEY (sale, queue_number)
);
CREATE UNIQUE INDEX open_visit_of_subject ON visit (sale, subject) WHERE ended_at IS NULL;

-- Reserved visits whose slot was released because their admission was not recorded in time; it is refused from then on.
CREATE TABLE lapsed_visit (
    visit_id text PRIMARY KEY
);

-- One number, one join.
CREATE TABLE join_group (
    sale         text   NOT NULL,
    first_number bigint NOT NULL,
    last_number  bigint NOT NULL,
    PRIMARY KEY (sale, first_number)
);

-- The hash chain over the records; `journal/chain.rs` specifies what is hashed.
CREATE TABLE chain_link (
    sale        text   NOT NULL,
    link_number bigint NOT NULL, -- from 1, without gaps
    last_seq    bigint NOT NULL, -- the last record that the link covers
    records     bigint NOT NULL, -- how many records it covers
    hash        bytea  NOT NULL,
    PRIMARY KEY (sale, link_number)
);

-- Appends records in one step. Each record has a check, with two numbers `a` and `b`, a visit and a time:
--   joins          a first number, b last number
--   call           a last number called before, b last number called now
--   admission      a queue number, b subject; visit, time
--   visit_end      a queue number; time
--   lapse          visit
--   close_entries  a last number in the draw, b persons among them
-- Errors: SD001 the epoch is over, SD002 a record excludes this one (a unique violation means the same), SD003 a number
-- above the ceiling.
CREATE FUNCTION append_records(
    the_sale text, the_epoch bigint, the_time bigint, headroom bigint,
    kinds text[], bodies bytea[], checks text[], a bigint[], b bigint[], visits text[], times bigint[]
) RETURNS TABLE (last_seq bigint, max_number bigint) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    h journal_head%ROWTYPE;
    persons bigint;
BEGIN
    SELECT * INTO STRICT h FROM journal_head WHERE sale = the_sale FOR UPDATE;
    -- Joins whose numbers were assigned just before the store lost its dataset may still be appended: the ceiling keeps
    -- their numbers apart from later ones, and the rebuild waits for them.
    IF h.epoch <> the_epoch
        AND NOT (h.epoch = the_epoch + 1 AND h.joins_final_epoch < h.epoch AND 'joins' = ALL (checks)) THEN
        RAISE EXCEPTION 'the epoch is over' USING ERRCODE = 'SD001';
    END IF;
    FOR i IN 1 .. cardinality(kinds) LOOP
        h.last_seq := h.last_seq + 1;
        INSERT INTO journal VALUES (the_sale, h.last_seq, kinds[i], bodies[i]);
        CASE checks[i]
        WHEN 'joins' THEN
            IF b[i] > h.max_number THEN
                RAISE EXCEPTION 'number above the ceiling' USING ERRCODE = 'SD003';
            END IF;
            IF a[i] <= h.draw_entries THEN
                RAISE EXCEPTION 'the draw is closed over this number' USING ERRCODE = 'SD002';
            END IF;
            h.max_number := greatest(h.max_number, b[i] + headroom);
            -- Groups do not overlap, so only the last one that begins before this one ends can meet it.
            IF a[i] <= (SELECT g.last_number FROM join_group g WHERE g.sale = the_sale AND g.first_number <= b[i]
                        ORDER BY g.first_number DESC LIMIT 1) THEN
                RAISE EXCEPTION 'a number is recorded already' USING ERRCODE = 'SD002';
            END IF;
            INSERT INTO join_group VALUES (the_sale, a[i], b[i]);
        WHEN 'close_entries' THEN
            -- The root covers the entries that its maker knew: if others were recorded since, it is made again.
            SELECT coalesce(sum(least(g.last_number, a[i]) - g.first_number + 1), 0) INTO persons
            FROM join_group g WHERE g.sale = the_sale AND g.first_number <= a[i];
            IF h.draw_entries IS NOT NULL OR persons <> b[i] THEN
                RAISE EXCEPTION 'the entries differ' USING ERRCODE = 'SD002';
            END IF;
            h.draw_entries := a[i];
        WHEN 'call' THEN
            IF a[i] <> h.now_serving THEN
                RAISE EXCEPTION 'another call came first' USING ERRCODE = 'SD002';
            END IF;
            h.now_serving := b[i];
        WHEN 'admission' THEN
            IF EXISTS (SELECT 1 FROM lapsed_visit l WHERE l.visit_id = visits[i]) THEN
                RAISE EXCEPTION 'the slot was released' USING ERRCODE = 'SD002';
            END IF;
            INSERT INTO visit (sale, queue_number, subject, visit_id, admitted_at, seq)
            VALUES (the_sale, a[i], b[i], visits[i], times[i], h.last_seq);
        WHEN 'visit_end' THEN
            UPDATE visit SET ended_at = times[i] WHERE sale = the_sale AND queue_number = a[i] AND ended_at IS NULL;
        WHEN 'lapse' THEN
            IF EXISTS (SELECT 1 FROM visit v WHERE v.visit_id = visits[i]) THEN
                RAISE EXCEPTION 'the admission was recorded' USING ERRCODE = 'SD002';
            END IF;
            INSERT INTO lapsed_visit VALUES (visits[i]);
        ELSE
            NULL;
        END CASE;
    END LOOP;
    UPDATE journal_head SET last_seq = h.last_seq, max_number = h.max_number, now_serving = h.now_serving,
        heartbeat_at = greatest(heartbeat_at, the_time), draw_entries = h.draw_entries
    WHERE sale = the_sale;
    RETURN QUERY SELECT h.last_seq, h.max_number;
END $$;
