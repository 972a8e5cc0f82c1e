-- Takes a slot and a permit in one step, if it is her turn; idempotent by the visit's id.
-- KEYS 1 state, 2 visits, 3 by_number, 4 ends, 5 called, 6 called_asked, 7 returners, 8 returners_asked,
-- 9 called_unpassed, 10 returners_unpassed.
-- ARGV 1 time, 2 number, 3 visit, 4 lane (c or r), 5 how many are expected any moment, 6 life of a pass, 7 when an
-- unwritten entry lapses, 8 when a claim lapses (ms), 9 claimants at most, 10 whether those inside are late (1 or 0),
-- 11 how soon a claimant may ask again, 12 how late at most, 13 how late at most far back (ms), 14 what part of the time until
-- her turn that is.
-- Returns: reserved + when | inside + visit | no_room + when to ask again (ms) | not_called | left.

-- When it may be the turn of whoever has so many before her, or some while before.
local function ask_again(before, rate_per_minute)
    local turn = math.floor(before * 60000 / math.max(tonumber(rate_per_minute), 1))
    local latest = math.min(math.max(turn / ARGV[14], tonumber(ARGV[12])), tonumber(ARGV[13]))
    return string.format('%.0f', math.min(math.max(turn, tonumber(ARGV[11])), latest))
end

local now, us = clock(ARGV[1])
local number, visit, lane, coming = tonumber(ARGV[2]), ARGV[3], ARGV[4], tonumber(ARGV[5])
local known = redis.call('HGET', KEYS[3], number)
if known then
    local is = read_visit(KEYS[2], known)
    if is.stage == 'i' then
        return { 'inside', known }
    elseif is.stage == 'r' and known == visit then
        return { 'reserved', string.format('%.0f', is.began) }
    elseif is.stage == 'r' then
        return { 'no_room', ARGV[11] }
    end
    return { 'left' }
end
local s = redis.call('HMGET', KEYS[1], 'now_serving', 'capacity', 'paused', 'contested', 'contested_returners', 'share', 'rate')
if number > tonumber(s[1]) then
    return { 'not_called' }
end
if s[3] == '1' then
    return { 'no_room', ARGV[11] }
end
local lapsed = now - tonumber(ARGV[8])
forget_lapsed(KEYS[5], KEYS[6], lapsed)
forget_lapsed(KEYS[7], KEYS[8], lapsed)
-- Whoever stood at the door when her time ran out keeps her turn while she goes on asking.
if lane == 'r' and redis.call('ZSCORE', KEYS[5], number) then
    lane = 'c'
end
local own, asked, unpassed = KEYS[5], KEYS[6], KEYS[9]
if lane == 'r' then
    own, asked, unpassed = KEYS[7], KEYS[8], KEYS[10]
end
if not redis.call('ZSCORE', own, number) then
    if redis.call('ZCARD', own) >= tonumber(ARGV[9]) then
        local highest = redis.call('ZRANGE', own, -1, -1)[1]
        if number > tonumber(highest) then
            return { 'no_room', ask_again(ARGV[9], s[7]) }
        end
        redis.call('ZREM', own, highest)
        redis.call('ZREM', asked, highest)
    end
    redis.call('ZADD', unpassed, number, number)
end
redis.call('ZADD', own, number, number)
redis.call('ZADD', asked, now, number)

local called, returners = redis.call('ZCARD', KEYS[5]), redis.call('ZCARD', KEYS[7])
local contested, contested_returners = tonumber(s[4]), tonumber(s[5])
local both = returners > 0 and (coming > 0 or called > 0)
local due = both and contested_returners + 1 <= tonumber(s[6]) * (contested + 1)
local units, _, filled = fill(KEYS[1], us)
local free = math.max(tonumber(s[2]) - redis.call('HLEN', KEYS[2]), 0)
local room = math.min(free, math.floor(units / PERMIT))
local own_room = room
if lane == 'r' then
    own_room = due and math.min(room, 1) or math.max(room - called - coming, 0)
end
local before = redis.call('ZRANK', own, number)
-- While those inside are late only those come in for whom a place was kept: somebody behind them has gone in.
local is_kept_out = ARGV[10] == '1' and redis.call('ZSCORE', unpassed, number)
if before >= own_room or is_kept_out then
    -- When it may be her turn; until then she may be silent.
    local again = ask_again(before, s[7])
    redis.call('ZADD', asked, now + again - tonumber(ARGV[11]), number)
    return { 'no_room', again }
end
if both then
    contested = contested + 1
    contested_returners = contested_returners + (lane == 'r' and 1 or 0)
end
redis.call('ZREMRANGEBYSCORE', unpassed, '-inf', number)
for place = 5, 10 do
    redis.call('ZREM', KEYS[place], number)
end
redis.call('HSET', KEYS[1], 'units', units - PERMIT, 'filled_us', filled, 'contested', contested, 'contested_returners', contested_returners)
write_visit(KEYS[2], visit, { number = number, stage = 'r', began = now, pass = now + tonumber(ARGV[6]), kept = now })
redis.call('HSET', KEYS[3], number, visit)
redis.call('ZADD', KEYS[4], now + tonumber(ARGV[7]), visit)
return { 'reserved', string.format('%.0f', now) }
