-- Releases slot and permit of a reserved visit whose entry did not take place.
-- KEYS state, visits, visit_by_number, visit_deadlines. ARGV now_ms, visit. Returns: 1.
local _, us = clock(now_ms)
local reserved = read_visit(visits_key, visit)
if reserved and reserved.stage == 'r' then
    redis.call('HDEL', visits_key, visit)
    redis.call('HDEL', visit_by_number_key, reserved.number)
    redis.call('ZREM', visit_deadlines_key, visit)
    local units, most, filled_us = fill_permits(state_key, us)
    redis.call('HSET', state_key, 'permit_units', math.min(units + PERMIT, most), 'permits_filled_us', filled_us)
end
return 1
