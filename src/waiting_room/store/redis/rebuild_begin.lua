-- The data of an earlier epoch are worth nothing; whoever raised the epoch rebuilds them, unless a later one is at it.
-- KEYS 1 ready, 2 rebuilding. ARGV 1 epoch, 2 life of the claim (ms). Returns 1, or 0 when somebody else rebuilds.
local other = tonumber(redis.call('GET', KEYS[2]) or 0)
if other > tonumber(ARGV[1]) then
    return 0
end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
redis.call('DEL', KEYS[1])
return 1
