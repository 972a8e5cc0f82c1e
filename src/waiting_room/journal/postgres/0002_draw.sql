-- A fair draw closes the entry list: from then on no join is taken with a number that is in the draw.
ALTER TABLE head ADD COLUMN entries bigint; -- numbers up to this one are in the draw; null while it is not closed

CREATE OR REPLACE FUNCTION append(
    the_sale text, the_epoch bigint, the_time bigint, headroom bigint,
    kinds text[], bodies bytea[], effects text[], a bigint[], b bigint[], visits text[], times bigint[]
) RETURNS TABLE (last bigint, top bigint) LANGUAGE plpgsql AS $$
DECLARE
    h head%ROWTYPE;
    persons bigint;
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
            IF a[i] <= h.entries THEN
                RAISE EXCEPTION 'the draw is closed over this number' USING ERRCODE = 'SD002';
            END IF;
            h.ceiling := greatest(h.ceiling, b[i] + headroom);
            -- Groups do not overlap, so the last one that begins before this one ends is the only one it could meet.
            IF a[i] <= (SELECT last_number FROM join_group WHERE sale = the_sale AND first_number <= b[i]
                        ORDER BY first_number DESC LIMIT 1) THEN
                RAISE EXCEPTION 'a number is written already' USING ERRCODE = 'SD002';
            END IF;
            INSERT INTO join_group VALUES (the_sale, a[i], b[i]);
        WHEN 'closed' THEN
            -- The root is over those whom its maker knew: if others have come in since, it is made again.
            SELECT coalesce(sum(least(last_number, a[i]) - first_number + 1), 0) INTO persons
            FROM join_group WHERE sale = the_sale AND first_number <= a[i];
            IF h.entries IS NOT NULL OR persons <> b[i] THEN
                RAISE EXCEPTION 'the entries are others' USING ERRCODE = 'SD002';
            END IF;
            h.entries := a[i];
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
    UPDATE head SET seq = h.seq, ceiling = h.ceiling, now_serving = h.now_serving, alive_at = greatest(alive_at, the_time),
        entries = h.entries
    WHERE sale = the_sale;
    RETURN QUERY SELECT h.seq, h.ceiling;
END $$;
