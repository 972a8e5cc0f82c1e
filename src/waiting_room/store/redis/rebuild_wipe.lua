-- KEYS 1 rebuilding, then what is to go. ARGV 1 epoch, 2 life of the claim (ms). Returns 1, or 0 when somebody else rebuilds.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
    return 0
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
for i = 2, #KEYS do
    redis.call('UNLINK', KEYS[i])
end
return 1
