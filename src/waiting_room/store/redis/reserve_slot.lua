-- Reserves a slot and a permit in one step, if it is this claimant's turn. Idempotent by the visit's id.
-- KEYS state, visits, visit_by_number, visit_deadlines, called, called_silent_since, late, late_silent_since,
-- called_not_overtaken, late_not_overtaken.
-- ARGV now_ms, number, visit, lane (called or late), expected: how many of those called are expected any moment,
-- pass_ttl_ms, reservation_ttl_ms: when an entry that is not journaled lapses, claim_ttl_ms: when the claim of a silent
-- claimant lapses, claimants_max, overloaded (1 while the box office cannot serve more visitors, else 0), retry_min_ms,
-- retry_max_ms, retry_far_max_ms: bounds of the time to wait before asking again near the front and far back, speedup_max:
-- how many times faster than expected a turn far back may come.
-- Returns: reserved + time (ms) | admitted + visit | being_admitted | no_room + when to ask again (ms) | not_called | ended.

-- When it may be the turn of a claimant with `ahead` others before it.
local function retry_after(ahead, rate_per_minute)
    local turn = math.floor(ahead * 60000 / math.max(tonumber(rate_per_minute), 1))
    local latest = math.min(math.max(turn / speedup_max, tonumber(retry_max_ms)), tonumber(retry_far_max_ms))
    return string.format('%.0f', math.min(math.max(turn, tonumber(retry_min_ms)), latest))
end

local now, us = clock(now_ms)
number, expected = tonumber(number), tonumber(expected)
local current = redis.call('HGET', visit_by_number_key, number)
if current then
    local known = read_visit(visits_key, current)
    if known.stage == 'a' then
        return { 'admitted', current }
    elseif known.stage == 'r' and current == visit then
        return { 'reserved', string.format('%.0f', known.started) }
    elseif known.stage == 'r' then
        return { 'being_admitted' }
    end
    return { 'ended' }
end
local s = redis.call('HMGET', state_key, 'now_serving', 'active_visits_max', 'stopped', 'contested_entries', 'contested_late',
    'late_arrival_share', 'rate_per_minute')
if number > tonumber(s[1]) then
    return { 'not_called' }
end
if s[3] == '1' then
    return { 'no_room', retry_min_ms }
end
local lapsed_before = now - tonumber(claim_ttl_ms)
drop_lapsed_claims(called_key, called_silent_since_key, lapsed_before)
drop_lapsed_claims(late_key, late_silent_since_key, lapsed_before)
-- A claimant that was in time keeps its lane after the call window, as long as it keeps asking.
if lane == 'late' and redis.call('ZSCORE', called_key, number) then
    lane = 'called'
end
local own, silent_since, not_overtaken = called_key, called_silent_since_key, called_not_overtaken_key
if lane == 'late' then
    own, silent_since, not_overtaken = late_key, late_silent_since_key, late_not_overtaken_key
end
if not redis.call('ZSCORE', own, number) then
    if redis.call('ZCARD', own) >= tonumber(claimants_max) then
        local highest = redis.call('ZRANGE', own, -1, -1)[1]
        if number > tonumber(highest) then
            return { 'no_room', retry_after(claimants_max, s[7]) }
        end
        redis.call('ZREM', own, highest)
        redis.call('ZREM', silent_since, highest)
    end
    redis.call('ZADD', not_overtaken, number, number)
end
redis.call('ZADD', own, number, number)
redis.call('ZADD', silent_since, now, number)

local called, late = redis.call('ZCARD', called_key), redis.call('ZCARD', late_key)
local contested, contested_late = tonumber(s[4]), tonumber(s[5])
local both_want_in = late > 0 and (expected > 0 or called > 0)
local late_is_due = both_want_in and contested_late + 1 <= tonumber(s[6]) * (contested + 1)
local units, _, filled_us = fill_permits(state_key, us)
local free = math.max(tonumber(s[2]) - redis.call('HLEN', visits_key), 0)
local room = math.min(free, math.floor(units / PERMIT))
local own_room = room
if lane == 'late' then
    own_room = late_is_due and math.min(room, 1) or math.max(room - called - expected, 0)
end
local ahead = redis.call('ZRANK', own, number)
-- While the box office is overloaded only claimants enter for whom a slot was kept: another behind them has entered.
local is_kept_out = overloaded == '1' and redis.call('ZSCORE', not_overtaken, number)
if ahead >= own_room or is_kept_out then
    -- Until its turn may come the claimant may be silent.
    local again = retry_after(ahead, s[7])
    redis.call('ZADD', silent_since, now + again - tonumber(retry_min_ms), number)
    return { 'no_room', again }
end
if both_want_in then
    contested = contested + 1
    contested_late = contested_late + (lane == 'late' and 1 or 0)
end
redis.call('ZREMRANGEBYSCORE', not_overtaken, '-inf', number)
for index = 5, 10 do
    redis.call('ZREM', KEYS[index], number)
end
redis.call('HSET', state_key, 'permit_units', units - PERMIT, 'permits_filled_us', filled_us, 'contested_entries', contested,
    'contested_late', contested_late)
local reserved = { number = number, stage = 'r', started = now, pass_until = now + tonumber(pass_ttl_ms), kept_until = now }
write_visit(visits_key, visit, reserved)
redis.call('HSET', visit_by_number_key, number, visit)
redis.call('ZADD', visit_deadlines_key, now + tonumber(reservation_ttl_ms), visit)
return { 'reserved', string.format('%.0f', now) }
