-- The entry of a reserved visit did not take place: slot and permit are free again.
-- KEYS 1 state, 2 visits, 3 by_number, 4 ends. ARGV 1 time, 2 visit.
local _, us = clock(ARGV[1])
local v = read_visit(KEYS[2], ARGV[2])
if v and v.stage == 'r' then
    redis.call('HDEL', KEYS[2], ARGV[2])
    redis.call('HDEL', KEYS[3], v.number)
    redis.call('ZREM', KEYS[4], ARGV[2])
    local units, most, filled = fill(KEYS[1], us)
    redis.call('HSET', KEYS[1], 'units', math.min(units + PERMIT, most), 'filled_us', filled)
end
return 1
