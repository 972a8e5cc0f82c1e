-- Shared functions; stands before every script but those of `scripts.rs` that say otherwise.

-- The time in milliseconds and microseconds: the server's, one clock for all nodes. A test gives its own.
local function clock(given_ms)
    given_ms = tonumber(given_ms)
    if given_ms > 0 then
        return given_ms, given_ms * 1000
    end
    local time = redis.call('TIME')
    local us = time[1] * 1000000 + time[2]
    return math.floor(us / 1000), us
end

-- One admission permit is PERMIT units, and each microsecond adds `rate_per_minute` units. All are whole numbers below
-- 2^53, so rounding loses nothing.
local PERMIT = 60000000

-- The permit units available now, their maximum, and the time to store with them.
local function fill_permits(state, us)
    local v = redis.call('HMGET', state, 'rate_per_minute', 'burst', 'permit_units', 'permits_filled_us')
    local rate, most = tonumber(v[1]), tonumber(v[2]) * PERMIT
    local units, filled_us = tonumber(v[3]), tonumber(v[4])
    -- Capped before the multiplication, so that a long pause cannot leave the range of whole numbers.
    local elapsed = math.min(math.max(us - filled_us, 0), math.ceil(most / rate))
    return math.min(units + elapsed * rate, most), most, math.max(filled_us, us)
end

-- A visit: its queue number; its stage (r reserved, a admitted, e ending: its end is not in the journal yet, x ended: its
-- end is in the journal and its slot is not free yet); when it started, until when its pass is valid, and until when it
-- is extended, in milliseconds.
local function read_visit(visits, id)
    local text = redis.call('HGET', visits, id)
    if not text then
        return nil
    end
    local number, stage, started, pass_until, kept_until = string.match(text, '^(%d+) (%a) (%d+) (%d+) (%d+)$')
    return {
        number = tonumber(number),
        stage = stage,
        started = tonumber(started),
        pass_until = tonumber(pass_until),
        kept_until = tonumber(kept_until),
    }
end

local function write_visit(visits, id, visit)
    local text = string.format('%.0f %s %.0f %.0f %.0f', visit.number, visit.stage, visit.started, visit.pass_until,
        visit.kept_until)
    redis.call('HSET', visits, id, text)
end

-- Drops the claimants of a lane who have been silent since before `before_ms`.
local function drop_lapsed_claims(lane, silent_since, before_ms)
    local lapsed = redis.call('ZRANGEBYSCORE', silent_since, '-inf', '(' .. before_ms, 'LIMIT', 0, 1000)
    for _, number in ipairs(lapsed) do
        redis.call('ZREM', lane, number)
        redis.call('ZREM', silent_since, number)
    end
end

