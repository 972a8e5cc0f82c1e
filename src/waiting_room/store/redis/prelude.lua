-- What several scripts share; it stands before each of them.

-- The time in milliseconds and in microseconds: the server's, one clock for all nodes, unless a test gives another.
local function clock(given)
    given = tonumber(given)
    if given > 0 then
        return given, given * 1000
    end
    local t = redis.call('TIME')
    local us = t[1] * 1000000 + t[2]
    return math.floor(us / 1000), us
end

-- Entry permits: one is PERMIT units, and each microsecond brings `rate` (a minute) of them. All whole numbers below
-- 2^53, so nothing is lost by rounding.
local PERMIT = 60000000

-- Units now, the most there may be, and when that was.
local function fill(state, us)
    local v = redis.call('HMGET', state, 'rate', 'burst', 'units', 'filled_us')
    local rate, most, units, filled = tonumber(v[1]), tonumber(v[2]) * PERMIT, tonumber(v[3]), tonumber(v[4])
    local passed = math.min(math.max(us - filled, 0), math.ceil(most / rate))
    return math.min(units + passed * rate, most), most, math.max(filled, us)
end

-- A visit: its number; r reserved, i inside, e ending, g gone (its end is written, its slot not free yet); and three
-- times: when it began, until when its pass is good, until when it is kept.
local function read_visit(visits, id)
    local text = redis.call('HGET', visits, id)
    if not text then
        return nil
    end
    local number, stage, began, pass, kept = string.match(text, '^(%d+) (%a) (%d+) (%d+) (%d+)$')
    return { number = tonumber(number), stage = stage, began = tonumber(began), pass = tonumber(pass), kept = tonumber(kept) }
end

local function write_visit(visits, id, v)
    redis.call('HSET', visits, id, string.format('%.0f %s %.0f %.0f %.0f', v.number, v.stage, v.began, v.pass, v.kept))
end

-- A claimant whose silence counts from before this is one no more.
local function forget_lapsed(lane, asked, before)
    local lapsed = redis.call('ZRANGEBYSCORE', asked, '-inf', '(' .. before, 'LIMIT', 0, 1000)
    for _, number in ipairs(lapsed) do
        redis.call('ZREM', lane, number)
        redis.call('ZREM', asked, number)
    end
end

