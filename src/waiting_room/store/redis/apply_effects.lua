-- Applies what the journal's records after `after_seq` up to `last_seq` mean to Redis: in order, each once, whichever node
-- sends them.
-- KEYS state, visits, visit_by_number, visit_deadlines, called, called_silent_since, late, late_silent_since,
-- ended_visits; then buckets.
-- ARGV now_ms, after_seq, last_seq, pass_ttl_ms, slot_grace_ms; then per effect its sequence number, kind and four values:
--   called    last number called
--   admitted  queue number, visit, start (ms)
--   ended     arrival number, visit, bucket's index in KEYS, field
--   left      arrival number, queue number, bucket's index in KEYS, field
--   lapsed    queue number, visit
--   settings  rate per minute, burst, active visits at most, stopped
-- Subjects are stored with arrival numbers; everything else goes by queue numbers.
-- Returns: the last record that is applied; less than `after_seq` when records before these are missing.
local _, us = clock(now_ms)
local applied = tonumber(redis.call('HGET', state_key, 'applied_seq'))
local after, last = tonumber(after_seq), tonumber(last_seq)
if applied < after or applied >= last then
    return applied
end
local function drop_claim(number)
    for index = 5, 8 do
        redis.call('ZREM', KEYS[index], number)
    end
end
local function drop_subject(arrival, index, field)
    local bucket = KEYS[tonumber(index)]
    if bucket and redis.call('HGET', bucket, field) == arrival then
        redis.call('HDEL', bucket, field)
    end
end
local function pass_over(visit)
    return math.max(visit.pass_until, visit.kept_until) + tonumber(slot_grace_ms)
end
local apply = {}
function apply.called(_, number)
    redis.call('HSET', state_key, 'now_serving', number)
end
function apply.admitted(_, number, id, started)
    started = tonumber(started)
    local visit = read_visit(visits_key, id)
        or { number = tonumber(number), started = started, pass_until = started + tonumber(pass_ttl_ms), kept_until = started }
    if not visit.stage or visit.stage == 'r' then
        visit.stage = 'a'
        write_visit(visits_key, id, visit)
        redis.call('HSET', visit_by_number_key, number, id)
        redis.call('ZADD', visit_deadlines_key, pass_over(visit), id)
    end
    drop_claim(number)
end
function apply.ended(seq, arrival, id, bucket, field)
    local visit = read_visit(visits_key, id)
    if visit and visit.stage ~= 'x' then
        visit.stage = 'x'
        write_visit(visits_key, id, visit)
        redis.call('ZADD', visit_deadlines_key, pass_over(visit), id)
        redis.call('ZADD', ended_visits_key, seq, id)
        redis.call('HDEL', visit_by_number_key, string.format('%.0f', visit.number))
    end
    drop_subject(arrival, bucket, field)
end
function apply.left(_, arrival, number, bucket, field)
    drop_claim(number)
    drop_subject(arrival, bucket, field)
end
function apply.lapsed(_, number, id)
    local visit = read_visit(visits_key, id)
    if visit and visit.stage == 'r' then
        redis.call('HDEL', visits_key, id)
        redis.call('HDEL', visit_by_number_key, number)
        redis.call('ZREM', visit_deadlines_key, id)
    end
end
function apply.settings(_, rate, burst, active_visits_max, stopped)
    -- What was filled at the old rate stays, as far as the new burst holds it.
    local units, _, filled_us = fill_permits(state_key, us)
    redis.call('HSET', state_key, 'rate_per_minute', rate, 'burst', burst, 'active_visits_max', active_visits_max,
        'stopped', stopped, 'permits_filled_us', filled_us, 'permit_units', math.min(units, tonumber(burst) * PERMIT))
end
for i = FIRST_ITEM, #ARGV, 6 do
    local seq = tonumber(ARGV[i])
    if seq > applied then
        apply[ARGV[i + 1]](seq, ARGV[i + 2], ARGV[i + 3], ARGV[i + 4], ARGV[i + 5])
    end
end
redis.call('HSET', state_key, 'applied_seq', last)
return last
