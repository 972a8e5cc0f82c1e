-- KEYS 1 rebuilding, then buckets. ARGV 1 epoch, 2 life of the claim (ms); then a bucket's place in KEYS, a field and a
-- number each. Returns 1, or 0 when somebody else rebuilds.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
    return 0
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
for i = 3, #ARGV, 3 do
    redis.call('HSET', KEYS[tonumber(ARGV[i])], ARGV[i + 1], ARGV[i + 2])
end
return 1
