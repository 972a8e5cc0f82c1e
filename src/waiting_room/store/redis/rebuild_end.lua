-- The rest, and the data are complete. The bucket of permits begins empty: nobody knows who has just entered.
-- KEYS 1 rebuilding, 2 ready, 3 state, 4 visits, 5 by_number, 6 ends. ARGV 1 epoch, 2 time, 3 life of a pass, 4 grace
-- after it (ms), 5 how many settings; then name and value each, then number, visit and beginning each.
-- Returns 1, or 0 when somebody else rebuilds.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
    return 0
end
local now, us = clock(ARGV[2])
redis.call('HSET', KEYS[3], 'units', 0, 'filled_us', us, 'contested', 0, 'contested_returners', 0)
local visits = 6 + 2 * tonumber(ARGV[5])
for i = 6, visits - 1, 2 do
    redis.call('HSET', KEYS[3], ARGV[i], ARGV[i + 1])
end
for i = visits, #ARGV, 3 do
    -- Until when their passes are good went with the memory; they are taken to be fresh.
    local pass = now + tonumber(ARGV[3])
    write_visit(KEYS[4], ARGV[i + 1], { number = tonumber(ARGV[i]), stage = 'i', began = tonumber(ARGV[i + 2]), pass = pass, kept = now })
    redis.call('HSET', KEYS[5], ARGV[i], ARGV[i + 1])
    redis.call('ZADD', KEYS[6], pass + tonumber(ARGV[4]), ARGV[i + 1])
end
redis.call('SET', KEYS[2], ARGV[1])
redis.call('DEL', KEYS[1])
return 1
