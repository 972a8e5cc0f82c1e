-- A number that was given and never written down is nobody's any more; its subject gets another one when she asks again.
-- KEYS 1 the subject's bucket. ARGV 1 field, 2 arrival number. Returns: 1.
if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then
    redis.call('HDEL', KEYS[1], ARGV[1])
end
return 1
