-- Restores settings and visits, and declares the data complete. Starts without permits: how many were used just before the
-- loss is unknown.
-- KEYS rebuilding, ready, state, visits, visit_by_number, visit_deadlines.
-- ARGV epoch, now_ms, pass_ttl_ms, slot_grace_ms, settings: how many; then per setting its name and value; then per visit
-- its queue number, id, start (ms) and stage: a admitted, e ending.
-- Returns: 1, or 0 when overtaken.
if redis.call('GET', rebuilding_key) ~= epoch then
    return 0
end
local now, us = clock(now_ms)
redis.call('HSET', state_key, 'permit_units', 0, 'permits_filled_us', us, 'contested_entries', 0, 'contested_late', 0)
local first_visit = FIRST_ITEM + 2 * tonumber(settings)
for i = FIRST_ITEM, first_visit - 1, 2 do
    redis.call('HSET', state_key, ARGV[i], ARGV[i + 1])
end
for i = first_visit, #ARGV, 4 do
    -- When passes expire was lost: they count as fresh. A visit that was ending is due at once, since the process that
    -- ended it may not have journaled that.
    local stage = ARGV[i + 3]
    local pass_until = stage == 'e' and now or now + tonumber(pass_ttl_ms)
    local due_at = stage == 'e' and now or pass_until + tonumber(slot_grace_ms)
    write_visit(visits_key, ARGV[i + 1], { number = tonumber(ARGV[i]), stage = stage, started = tonumber(ARGV[i + 2]), pass_until = pass_until, kept_until = now })
    redis.call('HSET', visit_by_number_key, ARGV[i], ARGV[i + 1])
    redis.call('ZADD', visit_deadlines_key, due_at, ARGV[i + 1])
end
redis.call('SET', ready_key, epoch)
redis.call('DEL', rebuilding_key)
return 1
